package look

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const etherARP = 0x0806

// arpTime is how long an answer may take.
const arpTime = 250 * time.Millisecond

// Twice asks the hosts on a device's link whether one of them has an IPv4
// address of this host (RFC 5227, section 2.1.1), and returns the MAC address of
// the one that does.
func Twice(ctx context.Context, dev string, a netip.Addr) (string, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil || len(i.HardwareAddr) != 6 || !a.Is4() {
		return "", err
	}
	proto := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherARP))) // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval((50 * time.Millisecond).Nanoseconds())
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: i.Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
	)
	if err != nil {
		return "", err
	}
	broadcast := &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: i.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	buf := make([]byte, 256)
	for range 2 {
		if err := unix.Sendto(fd, arpProbe(i.HardwareAddr, a), 0, broadcast); err != nil {
			return "", err
		}
		for deadline := time.Now().Add(arpTime); time.Now().Before(deadline) && ctx.Err() == nil; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue // nothing came for a while
			}
			if mac, claims := arpClaim(buf[:n], a); claims && mac.String() != i.HardwareAddr.String() {
				return mac.String(), nil
			}
		}
	}
	return "", nil
}

const arpLength = 28

// arpProbe asks who has an address, without saying that we have it.
func arpProbe(mac net.HardwareAddr, a netip.Addr) []byte {
	b := make([]byte, arpLength)
	copy(b, []byte{0, 1, 8, 0, 6, 4, 0, 1}) // Ethernet, IPv4, their lengths, request
	copy(b[8:], mac)
	copy(b[24:], a.AsSlice())
	return b
}

// arpClaim reads a message by which a host says that it has an address.
func arpClaim(b []byte, a netip.Addr) (net.HardwareAddr, bool) {
	if len(b) < arpLength || b[7] > 2 {
		return nil, false
	}
	sender, _ := netip.AddrFromSlice(b[14:18])
	return net.HardwareAddr(b[8:14]), sender == a
}
