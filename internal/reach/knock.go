package reach

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// discard is the port that is knocked at (RFC 863). Hardly any host listens
// there, so its kernel says that it is closed, if the checksum is right. It is
// one of TCP: kernels say of few ports of UDP in a second that they are closed.
const discard = 9

// knock asks for a connection to a closed port and waits for word that it is
// closed. The device computes the checksum, if it can.
func knock(ctx context.Context, dst netip.Addr) error {
	conn, err := (&net.Dialer{Timeout: Timeout}).DialContext(ctx, "tcp", netip.AddrPortFrom(dst, discard).String())
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if err == nil {
		conn.Close()
	}
	return err
}

// knockComputed is knock with a checksum that is computed here.
func knockComputed(ctx context.Context, dst netip.Addr) error {
	s, err := dial(ctx, netip.Addr{}, dst, 0, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer s.close()
	src, err := s.local()
	if err != nil {
		return err
	}
	port := highPort()
	if err := s.send(segment(src, dst, port, discard)); err != nil {
		return err
	}
	for buf := make([]byte, headersMost+1500); ; {
		n, err := s.receive(buf)
		if err != nil {
			return err
		}
		if answer := payload(dst, buf[:n]); len(answer) >= tcpHeader && answer[13]&(tcpRST|tcpSYN) != 0 &&
			binary.BigEndian.Uint16(answer) == discard && binary.BigEndian.Uint16(answer[2:]) == port {
			return nil
		}
	}
}

const (
	tcpHeader = 20
	tcpSYN    = 0x02
	tcpRST    = 0x04
)

// segment is a TCP segment that asks for a connection (RFC 9293). The kernel's own
// have options.
func segment(src, dst netip.Addr, from, to uint16) []byte {
	b := make([]byte, tcpHeader)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], rand.Uint32())
	b[12] = tcpHeader / 4 << 4
	b[13] = tcpSYN
	binary.BigEndian.PutUint16(b[14:], 65535) // window
	binary.BigEndian.PutUint16(b[16:], checksum(pseudo(src, dst, unix.IPPROTO_TCP, len(b)), b))
	return b
}

// datagram is a UDP header and its data (RFC 768, RFC 8200 section 8.1).
func datagram(src, dst netip.Addr, from, to uint16, data []byte) []byte {
	const header = 8
	b := make([]byte, header, header+len(data))
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(header+len(data)))
	b = append(b, data...)
	sum := checksum(pseudo(src, dst, unix.IPPROTO_UDP, len(b)), b)
	if sum == 0 {
		sum = 0xffff // 0 means that there is none
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// pseudo is the header that a checksum is made over besides the packet itself.
// That of IPv4 has the same sum in this form.
func pseudo(src, dst netip.Addr, proto uint32, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return binary.BigEndian.AppendUint32(b, proto)
}

// checksum is that of the Internet (RFC 1071). No part but the last may have an
// odd length.
func checksum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// highPort is one of those that clients send from.
func highPort() uint16 { return uint16(49152 + rand.N(16384)) }

// payload is what an IP packet that a raw socket of an address has received holds:
// one of IPv4 shows the header (raw(7)). It is empty if it is none.
func payload(from netip.Addr, packet []byte) []byte {
	if from.Is6() {
		return packet
	}
	if len(packet) < ipv4.HeaderLen || len(packet) < int(packet[0]&15)*4 {
		return nil
	}
	return packet[int(packet[0]&15)*4:]
}

// headersMost is the most that an IPv4 header takes.
const headersMost = 60
