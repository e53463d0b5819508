package reach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is connected to one address, so that it hears of no other.
type socket struct {
	file *os.File
	conn syscall.RawConn
	stop func() bool
}

// ErrNoSocket says that this process may not send probes.
var ErrNoSocket = errors.New("no socket for probes, which need the capability CAP_NET_RAW")

// dial opens a socket that never fragments what it sends, whatever the kernel
// has heard of the way. It sends from src, or from what the kernel chooses where
// src is none. Its time is Timeout, and ends with ctx.
func dial(ctx context.Context, src, dst netip.Addr, port uint16, kind, proto int) (socket, error) {
	family, level, discover, probe, errs := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, unix.IP_RECVERR
	if dst.Is6() {
		family, level, discover, probe, errs = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return socket{}, fmt.Errorf("%w: %w", ErrNoSocket, err)
	}
	s := socket{file: os.NewFile(uintptr(fd), dst.String())}
	if src.IsValid() {
		err = unix.Bind(fd, sockaddr(src, 0))
	}
	if err == nil {
		s.conn, err = s.file.SyscallConn()
	}
	if err == nil {
		err = errors.Join(
			unix.SetsockoptInt(fd, level, discover, probe),
			unix.SetsockoptInt(fd, level, errs, 1), // raw sockets hear of no errors without it (raw(7))
			unix.Connect(fd, sockaddr(dst, port)),
			s.file.SetDeadline(time.Now().Add(Timeout)),
		)
	}
	if err != nil {
		s.file.Close()
		return socket{}, err
	}
	s.stop = context.AfterFunc(ctx, func() { _ = s.file.SetDeadline(time.Now()) })
	return s, nil
}

func (s socket) close() {
	s.stop()
	s.file.Close()
}

func (s socket) send(packet []byte) error {
	var err error
	waitErr := s.conn.Write(func(fd uintptr) bool {
		err = unix.Send(int(fd), packet, 0)
		return err != unix.EAGAIN
	})
	return errors.Join(waitErr, err)
}

func (s socket) receive(buf []byte) (n int, err error) {
	waitErr := s.conn.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), buf, 0)
		return err != unix.EAGAIN
	})
	if waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// local is the address that the kernel sends from.
func (s socket) local() (src netip.Addr, err error) {
	controlErr := s.conn.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(int(fd)); err != nil {
			return
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			src = netip.AddrFrom4(sa.Addr)
		case *unix.SockaddrInet6:
			src = netip.AddrFrom16(sa.Addr)
		}
	})
	return src, errors.Join(controlErr, err)
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
}
