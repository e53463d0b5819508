package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// batch gathers changes and sends many in one system call. The kernel answers
// every message that fails, asked or not; an acknowledgement is asked for the
// last alone, so that its arrival says that all have been dealt with.
type batch struct {
	conn  *conn
	index func(dev string) (int, error)

	buf     []byte
	changes map[uint32]backend.Change // by sequence number
	last    int                       // where the last message begins in buf
	lastSeq uint32

	nexthops bool // objects are among what was gathered

	errs    []error              // of what was sent: a *backend.ChangeError for each change that was refused
	refused map[backend.Key]bool // rows of those
}

// batchSize bounds the bytes of one system call, well below the send buffer that
// Linux gives to any socket (net.core.wmem_default, 208 KiB).
const batchSize = 64 << 10

// action is what a message asks the kernel to do with a row.
type action int

const (
	create action = iota
	replace
	remove
)

// flags are the netlink flags for an action: the kernel refuses to create what
// is there, so that a stranger's row is never overwritten by mistake.
func (a action) flags() int {
	switch a {
	case create:
		return unix.NLM_F_CREATE | unix.NLM_F_EXCL
	case replace:
		return unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	return 0
}

// message makes the request for one row; index finds devices.
type message func(e backend.Entry, do action, index func(string) (int, error)) (*nl.NetlinkRequest, error)

// add gathers a change. The error says that there can be no message for it; what
// becomes of those that are sent is kept.
func (b *batch) add(c backend.Change, m message) error {
	entry, do := c.Want, create
	switch {
	case c.Want == nil:
		entry, do = c.Have, remove
	case c.Have != nil:
		do = replace
	}
	req, err := m(entry, do, b.index)
	if do == remove && errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // and the row is gone with its device
	}
	if err != nil {
		return err
	}
	bytes := req.Serialize()
	if len(b.buf)+len(bytes) > batchSize {
		b.flush()
	}
	if b.changes == nil {
		b.changes = map[uint32]backend.Change{}
	}
	b.last, b.lastSeq = len(b.buf), req.Seq
	b.buf = append(b.buf, bytes...)
	b.changes[req.Seq] = c
	b.nexthops = b.nexthops || c.Key().Kind == backend.KindNexthop
	return nil
}

// flush sends what was gathered and waits until the kernel has dealt with it.
func (b *batch) flush() {
	if len(b.buf) == 0 {
		return
	}
	buf, changes := b.buf, b.changes
	b.buf, b.changes, b.nexthops = nil, nil, false
	askAck(buf[b.last:])
	if err := b.conn.send(buf); err != nil {
		b.errs = append(b.errs, fmt.Errorf("send %d changes to netlink: %w", len(changes), err))
		return
	}
	for {
		msgs, err := b.conn.receive()
		if err != nil {
			b.errs = append(b.errs, err)
			return
		}
		for _, m := range msgs {
			c, ours := changes[m.Header.Seq]
			if !ours || m.Header.Type != unix.NLMSG_ERROR {
				continue
			}
			if err := ackError(m); err != nil && !gone(c, err) {
				b.refuse(c, conflict(c, err))
			}
			if m.Header.Seq == b.lastSeq {
				return
			}
		}
	}
}

func (b *batch) refuse(c backend.Change, err error) {
	b.errs = append(b.errs, &backend.ChangeError{Change: c, Err: err})
	if b.refused == nil {
		b.refused = map[backend.Key]bool{}
	}
	b.refused[c.Key()] = true
}

// gone reports whether a row that was to be deleted is not there: the kernel
// drops rows by itself with what they depend on.
func gone(c backend.Change, err error) bool {
	return c.Want == nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV))
}

// conflict says more of an error where a stranger's row stands in our way.
func conflict(c backend.Change, err error) error {
	if c.Have == nil && errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("something else put a row there, which tulle leaves alone; remove it: %w", err)
	}
	return err
}
