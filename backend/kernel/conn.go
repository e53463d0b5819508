package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// conn is a netlink socket of our own, which sends many messages in one
// system call and reads dumps without a copy of each. It is not safe for use by
// several goroutines at once.
type conn struct {
	fd   int
	port uint32 // ours, in the messages that we cause
	buf  []byte // of receive
}

// How much the kernel may queue for us: a whole batch of errors, or some pages
// of a dump.
const receiveBuffer = 4 << 20

// The kernel makes the pages of a dump as large as the buffer that it sees, up
// to 32 KiB.
const pageBuffer = 64 << 10

// silence is how long the kernel may take to answer. It always answers at once.
var silence = unix.Timeval{Sec: 10}

// dial opens a socket for one protocol of netlink(7).
func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd, buf: make([]byte, pageBuffer)}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &silence),
	)
	if err != nil {
		c.close()
		return nil, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		c.close()
		return nil, err
	}
	c.port = name.(*unix.SockaddrNetlink).Pid
	// Not all of these exist or are allowed everywhere, and none is needed for
	// right results: strict checking lets the kernel filter dumps (4.20), CAP_ACK
	// and EXT_ACK make errors short and tell their reason.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1)
	}
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

func (c *conn) send(bytes []byte) error {
	return unix.Sendto(c.fd, bytes, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// errInterrupted says that a table changed while it was dumped, so that rows may
// be missing from the dump.
var errInterrupted = errors.New("the table keeps changing while it is read")

// dumpTries is how often an interrupted dump is tried again.
const dumpTries = 5

// dump asks for a table and calls each for every row. What each is given is good
// only until it returns. After an interrupted dump it begins again: reset is called
// before each try.
func (c *conn) dump(kind int, body nl.NetlinkRequestData, reset func(), each func(syscall.NetlinkMessage) error, attrs ...nl.NetlinkRequestData) error {
	for range dumpTries {
		req := nl.NewNetlinkRequest(kind, unix.NLM_F_DUMP)
		req.AddData(body)
		for _, a := range attrs {
			req.AddData(a)
		}
		reset()
		err := c.dumpOnce(req, each)
		if !errors.Is(err, errInterrupted) {
			return err
		}
	}
	return errInterrupted
}

func (c *conn) dumpOnce(req *nl.NetlinkRequest, each func(syscall.NetlinkMessage) error) error {
	if err := c.send(req.Serialize()); err != nil {
		return err
	}
	var failed error // remembered while the rest of the dump is read
	interrupted := false
	for {
		msgs, err := c.receive()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if m.Header.Seq != req.Seq {
				continue // of a dump that we gave up
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				if failed == nil && interrupted {
					failed = errInterrupted
				}
				return errors.Join(failed, doneError(m))
			case unix.NLMSG_ERROR:
				return ackError(m)
			default:
				if failed == nil {
					failed = each(m)
				}
			}
		}
	}
}

// receive reads the next messages, which are good until the next call.
func (c *conn) receive() ([]syscall.NetlinkMessage, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, c.buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("receive from netlink: %w", err)
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("receive from netlink: a message is longer than %d bytes", len(c.buf))
		}
		if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue // from another process
		}
		return syscall.ParseNetlinkMessage(c.buf[:n])
	}
}

// doneError is the error that NLMSG_DONE carries, if any.
func doneError(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return nil
	}
	if n := int32(binary.NativeEndian.Uint32(m.Data)); n < 0 {
		return unix.Errno(-n)
	}
	return nil
}

// ackError is the error that NLMSG_ERROR carries with the kernel's reason, or
// nil if the message is an acknowledgement.
func ackError(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return errors.New("netlink error message is too short")
	}
	n := int32(binary.NativeEndian.Uint32(m.Data))
	if n == 0 {
		return nil
	}
	err := unix.Errno(-n)
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	rest := m.Data[4:]
	skip := unix.SizeofNlMsghdr
	if m.Header.Flags&unix.NLM_F_CAPPED == 0 && len(rest) >= 4 {
		skip = int(binary.NativeEndian.Uint32(rest)) // the whole request comes back
	}
	if skip > len(rest) {
		return err
	}
	attrs, parseErr := nl.ParseRouteAttr(rest[skip:])
	if parseErr != nil {
		return err
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w (%s)", err, nl.BytesToString(a.Value))
		}
	}
	return err
}
