package reach

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// smallSize is the size of a small packet, IP header included.
const smallSize = 84

// request is an ICMP echo request, and what its answer is known by.
type request struct {
	dst    netip.Addr
	proto  int
	reply  icmp.Type
	id     int
	cookie uint64
	size   int // IP header included
	packet []byte
}

// newRequest makes a request of size bytes, IP header included.
func newRequest(dst netip.Addr, size int) (request, error) {
	r := request{dst: dst, proto: unix.IPPROTO_ICMPV6, reply: ipv6.ICMPTypeEchoReply, id: rand.N(1 << 16), cookie: rand.Uint64(), size: size}
	var kind icmp.Type = ipv6.ICMPTypeEchoRequest
	headers := ipv6.HeaderLen + 8
	if dst.Is4() {
		r.proto, r.reply, kind = unix.IPPROTO_ICMP, ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeEcho
		headers = ipv4.HeaderLen + 8
	}
	data := make([]byte, max(8, size-headers))
	binary.BigEndian.PutUint64(data, r.cookie)
	var err error
	r.packet, err = (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: r.id, Data: data}}).Marshal(nil)
	return r, err
}

// await returns when the answer is there.
func (r request) await(s socket) error {
	for buf := make([]byte, r.size+headersMost); ; {
		n, err := s.receive(buf)
		if err != nil {
			return err
		}
		answer := payload(r.dst, buf[:n])
		m, err := icmp.ParseMessage(r.proto, answer)
		if err != nil || m.Type != r.reply || len(answer) != len(r.packet) {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == r.id && binary.BigEndian.Uint64(e.Data) == r.cookie {
			return nil
		}
	}
}

// echo sends an ICMP echo request of size bytes, IP header included, and returns
// the time until the answer.
func echo(ctx context.Context, dst netip.Addr, size int) (time.Duration, error) {
	r, err := newRequest(dst, size)
	if err != nil {
		return 0, err
	}
	s, err := dial(ctx, netip.Addr{}, dst, 0, unix.SOCK_RAW, r.proto)
	if err != nil {
		return 0, err
	}
	defer s.close()
	start := time.Now()
	if err := s.send(r.packet); err != nil {
		return 0, err
	}
	if err := r.await(s); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}
