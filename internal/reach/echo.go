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

// echo sends an ICMP echo request of size bytes, IP header included, and returns
// the time until the answer.
func echo(ctx context.Context, dst netip.Addr, size int) (time.Duration, error) {
	v4 := dst.Is4()
	proto, header := unix.IPPROTO_ICMPV6, 40+8
	var kind, reply icmp.Type = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	if v4 {
		proto, header = unix.IPPROTO_ICMP, 20+8
		kind, reply = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	}
	s, err := dial(ctx, dst, 0, unix.SOCK_RAW, proto)
	if err != nil {
		return 0, err
	}
	defer s.close()
	id, cookie := rand.N(1<<16), rand.Uint64()
	data := make([]byte, max(8, size-header))
	binary.BigEndian.PutUint64(data, cookie)
	packet, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: id, Data: data}}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := s.send(packet); err != nil {
		return 0, err
	}
	for buf := make([]byte, size+headersMost); ; {
		n, err := s.receive(buf)
		if err != nil {
			return 0, err
		}
		answer := buf[:n]
		if v4 { // a raw socket of IPv4 shows the IP header (raw(7))
			if n < 20 || n < int(answer[0]&15)*4 {
				continue
			}
			answer = answer[int(answer[0]&15)*4:]
		}
		m, err := icmp.ParseMessage(proto, answer)
		if err != nil || m.Type != reply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id && len(e.Data) == len(data) && binary.BigEndian.Uint64(e.Data) == cookie {
			return time.Since(start), nil
		}
	}
}

// headersMost is the most that an IPv4 header takes.
const headersMost = 60
