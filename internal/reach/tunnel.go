package reach

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Tunnel is what a VXLAN packet to a node says.
type Tunnel struct {
	VNI, Port     int
	Local, Remote netip.Addr // on the underlay
	MAC, PeerMAC  net.HardwareAddr
}

// Wrapped tries whether a node answers a small packet that is wrapped for the
// tunnel here, with checksums that no device has a part in. dst is its address
// inside. IPv6 is left untried.
func Wrapped(ctx context.Context, t Tunnel, dst netip.Addr) (Outcome, error) {
	if !dst.Is4() || !t.Local.Is4() || !t.Remote.Is4() {
		return Untried, nil
	}
	return try(ctx, func() error {
		answers, err := dial(ctx, netip.Addr{}, dst, 0, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer answers.close()
		src, err := answers.local()
		if err != nil {
			return err
		}
		out, err := dial(ctx, t.Local, t.Remote, 0, unix.SOCK_RAW, unix.IPPROTO_UDP)
		if err != nil {
			return err
		}
		defer out.close()
		r, err := newRequest(dst, smallSize)
		if err != nil {
			return err
		}
		if err := out.send(t.wrap(ip4(src, dst, unix.IPPROTO_ICMP, r.packet))); err != nil {
			return err
		}
		return r.await(answers)
	})
}

// wrap makes the datagram that carries a packet (RFC 7348).
func (t Tunnel) wrap(packet []byte) []byte {
	const vniThere = 0x08
	b := []byte{vniThere, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(t.VNI)<<8)
	b = append(append(b, t.PeerMAC...), t.MAC...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	return datagram(t.Local, t.Remote, highPort(), uint16(t.Port), append(b, packet...))
}

// ip4 is an IPv4 packet (RFC 791).
func ip4(src, dst netip.Addr, proto byte, body []byte) []byte {
	b := make([]byte, ipv4.HeaderLen, ipv4.HeaderLen+len(body))
	b[0] = 4<<4 | ipv4.HeaderLen/4
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4.HeaderLen+len(body)))
	b[8], b[9] = 64, proto // hops
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, body...)
}
