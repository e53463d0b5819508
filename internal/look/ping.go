package look

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// answerTime is how long an answer to a probe may take, and tries how often one
// is sent: a host that has just learnt a neighbour loses the first.
const (
	answerTime = 500 * time.Millisecond
	tries      = 3
)

// Ping reports whether an address answers a packet of size bytes, its IP header
// included, that no router may break up. An error says why nothing was sent.
func Ping(ctx context.Context, src, dst netip.Addr, size int) (bool, error) {
	network, proto, header := "ip4:icmp", unix.IPPROTO_ICMP, ipv4.HeaderLen
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if dst.Is6() {
		network, proto, header = "ip6:ipv6-icmp", unix.IPPROTO_ICMPV6, ipv6.HeaderLen
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	from := ""
	if src.IsValid() {
		from = src.String()
	}
	listen := net.ListenConfig{Control: dontFragment(dst)}
	conn, err := listen.ListenPacket(ctx, network, from)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	echo := &icmp.Echo{ID: int(rand.Uint32() & 0xffff), Data: make([]byte, max(0, size-header-8))}
	buf := make([]byte, 64<<10)
	for echo.Seq = range tries {
		packet, err := (&icmp.Message{Type: request, Body: echo}).Marshal(nil)
		if err != nil {
			return false, err
		}
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
			if passing(err) {
				continue // a rule drops it, or the neighbour is not there
			}
			return false, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			return false, err
		}
		for {
			n, peer, err := conn.ReadFrom(buf)
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err != nil {
				break // it took too long, or an ICMP error came
			}
			m, err := icmp.ParseMessage(proto, buf[:n])
			if err != nil || m.Type != reply || peer.String() != dst.String() {
				continue
			}
			if e, ok := m.Body.(*icmp.Echo); ok && e.ID == echo.ID && n == len(packet) {
				return true, nil
			}
		}
	}
	return false, nil
}

// passing reports whether an error of sending says that packets are lost, rather
// than that nothing can be said.
func passing(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.EINVAL, unix.ENETDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// dontFragment makes a socket send with DF set, whatever the kernel believes of
// the way (IP_PMTUDISC_PROBE of ip(7)).
func dontFragment(dst netip.Addr) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if dst.Is6() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
				return
			}
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		})
		return errors.Join(err, controlErr)
	}
}

// Largest finds the largest packet that arrives, between one that does and one
// that does not.
func Largest(ctx context.Context, src, dst netip.Addr, good, bad int) int {
	for bad-good > 1 && ctx.Err() == nil {
		middle := (good + bad) / 2
		if ok, err := Ping(ctx, src, dst, middle); ok && err == nil {
			good = middle
		} else {
			bad = middle
		}
	}
	return good
}

// closedPort is one that hardly anybody listens on (discard).
const closedPort = 9

// TCP reports whether a host answers a connection, by accepting or by refusing it.
func TCP(ctx context.Context, src, dst netip.Addr) (bool, error) {
	d := net.Dialer{Timeout: tries * answerTime, LocalAddr: &net.TCPAddr{IP: src.AsSlice()}}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(dst, closedPort).String())
	switch timeout := net.Error(nil); {
	case err == nil:
		conn.Close()
		return true, nil
	case errors.Is(err, unix.ECONNREFUSED):
		return true, nil
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded), passing(err):
		return false, nil
	}
	return false, err
}
