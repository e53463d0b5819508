package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// pinger sends ICMP echo requests of one family from a place, with DF set, one
// at a time. IPv6 has no DF: routers never fragment there.
type pinger struct {
	echoing
	conn net.PacketConn
	id   int
	seq  int
}

// echoing is how one family echoes.
type echoing struct {
	network, any   string // of package net
	protocol       int    // of IP, for package icmp
	request, reply icmp.Type
	headers        int                // bytes of an echo request without its data
	whole          func(fd int) error // lets the kernel refuse what is larger than the MTU
}

var echoes = [2]echoing{
	subnet.IPv4: {"ip4:icmp", "0.0.0.0", unix.IPPROTO_ICMP, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, 20 + 8, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	}},
	subnet.IPv6: {"ip6:ipv6-icmp", "::", unix.IPPROTO_ICMPV6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 40 + 8, func(fd int) error {
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
	}},
}

// small is the size of what ping(8) sends.
func (e echoing) small() int { return e.headers + 56 }

// message is an echo request of size bytes, IP header included, without that
// header. The kernel completes the checksum of IPv6.
func (e echoing) message(id, seq, size int) ([]byte, error) {
	echo := &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, size-e.headers)}
	return (&icmp.Message{Type: e.request, Body: echo}).Marshal(nil)
}

// answer reads an answer to any of our requests. A raw socket sees all of the
// place's ICMP.
func (e echoing) answer(packet []byte, id int) (seq int, ok bool) {
	m, err := icmp.ParseMessage(e.protocol, packet)
	if err != nil || m.Type != e.reply {
		return 0, false
	}
	echo, ok := m.Body.(*icmp.Echo)
	if !ok || echo.ID != id {
		return 0, false
	}
	return echo.Seq, true
}

// pingTimeout is how long an answer may take that has not to wait for anything.
const pingTimeout = time.Second

// pingGrace is how long what has come by then may take to be read.
const pingGrace = 20 * time.Millisecond

var errLost = fmt.Errorf("no answer within %s", pingTimeout)

// newPinger opens a raw socket in the place. The id tells this pinger's answers
// from those of others in the same place.
func newPinger(ctx context.Context, p *Place, f subnet.Family, id int) (*pinger, error) {
	e := echoes[f]
	unfragmented := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) { err = e.whole(int(fd)) })
		return errors.Join(err, controlErr)
	}}
	var conn net.PacketConn
	err := p.Net(func() (err error) {
		conn, err = unfragmented.ListenPacket(ctx, e.network, e.any)
		return err
	})
	return &pinger{echoing: e, conn: conn, id: id}, err
}

func (p *pinger) close() { p.conn.Close() }

// ping sends one packet of size bytes, IP header included, and returns the time
// until a whole answer was there. The error is errLost when none came.
func (p *pinger) ping(ctx context.Context, dst netip.Addr, size int) (time.Duration, error) {
	p.seq = (p.seq + 1) & 0xffff
	packet, err := p.message(p.id, p.seq, size)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := p.conn.SetReadDeadline(start.Add(pingTimeout)); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(past) })
	defer stop()
	if _, err := p.conn.WriteTo(packet, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
		return 0, err
	}
	over := false // the time is
	for buf := make([]byte, 64<<10); ; {
		n, from, err := p.conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case isTimeout(err) && !over:
			// The answer may have been there for long, and this process not have run: what
			// is there is still read.
			over = true
			if err := p.conn.SetReadDeadline(time.Now().Add(pingGrace)); err != nil {
				return 0, err
			}
			continue
		case isTimeout(err):
			return 0, errLost
		case err != nil:
			return 0, err
		}
		if seq, ok := p.answer(buf[:n], p.id); ok && seq == p.seq && n == len(packet) && from.String() == dst.String() {
			return time.Since(start), nil
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
