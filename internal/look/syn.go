package look

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

const (
	tcpHeader = 20
	tcpSYN    = 0x02
	tcpRST    = 0x04
)

// SYN reports whether a host answers the first packet of a connection, whose
// checksum is made here: no device has a part in it, as it has in what the
// kernel sends by itself.
func SYN(ctx context.Context, src, dst netip.Addr) (bool, error) {
	network := "ip4:tcp"
	if dst.Is6() {
		network = "ip6:tcp"
	}
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, network, src.String())
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	port := uint16(49152 + rand.IntN(16000))
	packet := segment(src, dst, port, closedPort)
	buf := make([]byte, 2048)
	for range tries {
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: dst.AsSlice()}); err != nil && !passing(err) {
			return false, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			return false, err
		}
		for {
			n, from, err := conn.ReadFrom(buf)
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err != nil {
				break
			}
			if n >= tcpHeader && from.String() == dst.String() && binary.BigEndian.Uint16(buf) == closedPort &&
				binary.BigEndian.Uint16(buf[2:]) == port && buf[13]&(tcpRST|tcpSYN) != 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// segment is a TCP segment that asks for a connection.
func segment(src, dst netip.Addr, from, to uint16) []byte {
	b := make([]byte, tcpHeader)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], rand.Uint32())
	b[12] = tcpHeader / 4 << 4
	b[13] = tcpSYN
	binary.BigEndian.PutUint16(b[14:], 65535) // window
	const protocol = 6
	pseudo := append(append(src.AsSlice(), dst.AsSlice()...), 0, protocol, 0, tcpHeader)
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
