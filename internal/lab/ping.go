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
	"golang.org/x/sys/unix"
)

// pinger sends ICMP echo requests from a place, with DF set, one at a time.
type pinger struct {
	conn net.PacketConn
	id   int
	seq  int
}

// echoHeaders is the size of an echo request without its data: IPv4 and ICMP.
const echoHeaders = 20 + 8

// pingTimeout is how long an answer may take that has not to wait for anything.
const pingTimeout = time.Second

var errLost = fmt.Errorf("no answer within %s", pingTimeout)

// newPinger opens a raw socket in the place. The id tells this pinger's answers
// from those of others in the same place.
func newPinger(ctx context.Context, p *Place, id int) (*pinger, error) {
	// DO: the kernel never fragments, and refuses what is larger than the MTU
	// instead of sending it.
	dontFragment := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		return errors.Join(err, controlErr)
	}}
	var conn net.PacketConn
	err := p.Net(func() (err error) {
		conn, err = dontFragment.ListenPacket(ctx, "ip4:icmp", "0.0.0.0")
		return err
	})
	return &pinger{conn: conn, id: id}, err
}

func (p *pinger) close() { p.conn.Close() }

// ping sends one packet of size bytes, IP header included, and returns the time
// until a whole answer was there. The error is errLost when none came.
func (p *pinger) ping(ctx context.Context, dst netip.Addr, size int) (time.Duration, error) {
	p.seq++
	echo := &icmp.Echo{ID: p.id, Seq: p.seq, Data: make([]byte, size-echoHeaders)}
	packet, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: echo}).Marshal(nil)
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
	for buf := make([]byte, 64<<10); ; {
		n, from, err := p.conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case isTimeout(err):
			return 0, errLost
		case err != nil:
			return 0, err
		}
		if from.String() == dst.String() && p.answers(buf[:n], len(packet)) {
			return time.Since(start), nil
		}
	}
}

// answers reports whether the packet answers the last request. The raw socket
// sees all of the place's ICMP.
func (p *pinger) answers(packet []byte, size int) bool {
	m, err := icmp.ParseMessage(unix.IPPROTO_ICMP, packet)
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply || len(packet) != size {
		return false
	}
	echo, ok := m.Body.(*icmp.Echo)
	return ok && echo.ID == p.id && echo.Seq == p.seq
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
