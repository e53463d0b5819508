package etcd

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// RoundTrip is how long a packet to etcd and the answer to it take, as the kernel
// has measured on our connection: keepalives keep it fresh, and asking costs etcd
// nothing. It is false where there is no such connection.
func (s *Store) RoundTrip() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	best, found := time.Duration(0), false
	for c := range s.conns {
		tcp, ok := c.(*conn).Conn.(*net.TCPConn)
		if !ok {
			continue
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) { // it is closed: then there is nothing to tell
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if took := time.Duration(info.Rtt) * time.Microsecond; err == nil && (!found || took < best) {
				best, found = took, true
			}
		})
	}
	return best, found
}

// Restarts is how often Watch had to read everything again.
func (s *Store) Restarts() uint64 { return s.restarts.Load() }
