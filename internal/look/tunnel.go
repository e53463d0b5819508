package look

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"tulle/internal/trace"
)

// Tunnelled reports whether a peer answers an echo request that is wrapped for
// the tunnel here, with checksums that no device has a part in. to is the peer on
// the underlay, dst its address inside, mac that of its VXLAN device.
func Tunnelled(ctx context.Context, tunnel trace.Link, src, dst, to netip.Addr, mac string) (bool, error) {
	ours, err1 := net.ParseMAC(tunnel.MAC)
	theirs, err2 := net.ParseMAC(mac)
	if err1 != nil || err2 != nil || !src.Is4() || !dst.Is4() || !to.Is4() {
		return false, unix.EAFNOSUPPORT
	}
	replies, err := (&net.ListenConfig{}).ListenPacket(ctx, "ip4:icmp", src.String())
	if err != nil {
		return false, err
	}
	defer replies.Close()
	stop := context.AfterFunc(ctx, func() { _ = replies.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	out, err := (&net.ListenConfig{}).ListenPacket(ctx, "ip4:udp", tunnel.Local.String())
	if err != nil {
		return false, err
	}
	defer out.Close()

	echo := &icmp.Echo{ID: int(rand.Uint32() & 0xffff), Data: make([]byte, 56)}
	buf := make([]byte, 2048)
	for echo.Seq = range tries {
		request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: echo}).Marshal(nil)
		if err != nil {
			return false, err
		}
		inner := append(ethernet(theirs, ours), ip4(src, dst, unix.IPPROTO_ICMP, request)...)
		if _, err := out.WriteTo(vxlan(tunnel, to, inner), &net.IPAddr{IP: to.AsSlice()}); err != nil && !passing(err) {
			return false, err
		}
		if err := replies.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			return false, err
		}
		for {
			n, from, err := replies.ReadFrom(buf)
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err != nil {
				break
			}
			m, err := icmp.ParseMessage(unix.IPPROTO_ICMP, buf[:n])
			if err != nil || m.Type != ipv4.ICMPTypeEchoReply || from.String() != dst.String() {
				continue
			}
			if e, ok := m.Body.(*icmp.Echo); ok && e.ID == echo.ID {
				return true, nil
			}
		}
	}
	return false, nil
}

func ethernet(dst, src net.HardwareAddr) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte{}, dst...), src...), unix.ETH_P_IP)
}

// ip4 is an IPv4 packet (RFC 791).
func ip4(src, dst netip.Addr, proto byte, body []byte) []byte {
	b := make([]byte, ipv4.HeaderLen)
	b[0] = 4<<4 | ipv4.HeaderLen/4
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4.HeaderLen+len(body)))
	b[8], b[9] = 64, proto // hops
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, body...)
}

// vxlan is the UDP datagram that carries a frame (RFC 7348).
func vxlan(tunnel trace.Link, to netip.Addr, frame []byte) []byte {
	const udpHeader, header, vniThere = 8, 8, 0x08
	b := make([]byte, udpHeader+header)
	binary.BigEndian.PutUint16(b, uint16(49152+rand.IntN(16000)))
	binary.BigEndian.PutUint16(b[2:], uint16(tunnel.Port))
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)+len(frame)))
	b[udpHeader] = vniThere
	binary.BigEndian.PutUint32(b[udpHeader+4:], uint32(tunnel.VNI)<<8)
	b = append(b, frame...)
	pseudo := append(append(tunnel.Local.AsSlice(), to.AsSlice()...), 0, unix.IPPROTO_UDP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], checksum(append(pseudo, b...)))
	return b
}
