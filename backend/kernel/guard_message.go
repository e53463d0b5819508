package kernel

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// body is the attributes of an nftables message. Its numbers are big endian, and
// nested attributes are not marked as such, because the kernel dumps them so:
// what it dumps can be compared with what it was sent.
type body []byte

func (b body) put(kind int, value []byte) body {
	size := unix.SizeofRtAttr + len(value)
	b = binary.NativeEndian.AppendUint16(b, uint16(size))
	b = binary.NativeEndian.AppendUint16(b, uint16(kind))
	b = append(b, value...)
	return append(b, make([]byte, -size&(unix.RTA_ALIGNTO-1))...)
}

func (b body) text(kind int, text string) body { return b.put(kind, append([]byte(text), 0)) }

func (b body) number(kind int, n uint32) body {
	return b.put(kind, binary.BigEndian.AppendUint32(nil, n))
}

// all is the attributes in their order. What follows one that is broken is left
// out.
func (b body) all() iter.Seq2[int, body] {
	return func(yield func(int, body) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			kind := int(binary.NativeEndian.Uint16(b[2:]) & 0x3fff) // without flags
			if size < unix.SizeofRtAttr || size > len(b) || !yield(kind, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
		}
	}
}

// get is the value of an attribute, or nil.
func (b body) get(kind int) body {
	for k, value := range b.all() {
		if k == kind {
			return value
		}
	}
	return nil
}

// only is the attributes of some kinds.
func (b body) only(kinds ...int) body {
	var some body
	for kind, value := range b.all() {
		if slices.Contains(kinds, kind) {
			some = some.put(kind, value)
		}
	}
	return some
}

func (b body) string(kind int) string { return nl.BytesToString(b.get(kind)) }

// holds reports whether b has all attributes of want. The kernel adds some of its
// own to what it was sent, and newer ones add more.
func (b body) holds(want body) bool {
	for kind, value := range want.all() {
		if string(b.get(kind)) != string(value) {
			return false
		}
	}
	return true
}

// sizeofNfgenmsg is that of the header before the attributes of a netfilter
// message: the family, the version and a number.
const sizeofNfgenmsg = 4

// nfgenmsg is that header.
type nfgenmsg [sizeofNfgenmsg]byte

var _ nl.NetlinkRequestData = nfgenmsg{}

func (m nfgenmsg) Len() int          { return len(m) }
func (m nfgenmsg) Serialize() []byte { return m[:] }

func (b body) Len() int          { return len(b) }
func (b body) Serialize() []byte { return b }

// inet is of tables for both families; protos are of those for one.
var (
	inet   = nfgenmsg{unix.NFPROTO_INET}
	protos = [2]nfgenmsg{subnet.IPv4: {unix.NFPROTO_IPV4}, subnet.IPv6: {unix.NFPROTO_IPV6}}
)

func nftMessage(kind int) int { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

// transaction is messages of which the kernel takes all or none.
type transaction struct {
	proto nfgenmsg // of the tables that it is about
	buf   []byte
	seq   uint32 // of the last message
	start uint32 // sequence number of the first
	last  int    // where the last message begins
	rows  uint32 // sequence number of the first message about rows
}

func newTransaction(seq uint32, proto nfgenmsg) *transaction {
	t := &transaction{proto: proto, seq: seq, start: seq + 1}
	t.write(unix.NFNL_MSG_BATCH_BEGIN, 0, nfgenmsg{2: unix.NFNL_SUBSYS_NFTABLES >> 8, 3: unix.NFNL_SUBSYS_NFTABLES & 0xff}, nil)
	return t
}

func (t *transaction) write(kind, flags int, header nfgenmsg, b body) {
	t.seq++
	t.last = len(t.buf)
	t.buf = binary.NativeEndian.AppendUint32(t.buf, uint32(unix.SizeofNlMsghdr+len(header)+len(b)))
	t.buf = binary.NativeEndian.AppendUint16(t.buf, uint16(kind))
	t.buf = binary.NativeEndian.AppendUint16(t.buf, uint16(flags|unix.NLM_F_REQUEST))
	t.buf = binary.NativeEndian.AppendUint32(t.buf, t.seq)
	t.buf = binary.NativeEndian.AppendUint32(t.buf, 0)
	t.buf = append(t.buf, header[:]...)
	t.buf = append(t.buf, b...)
}

// add is to create something, and no error if it is there.
func (t *transaction) add(kind int, b body) {
	t.write(nftMessage(kind), unix.NLM_F_CREATE|unix.NLM_F_APPEND, t.proto, b)
}

// insert is to create a rule before all others of its chain.
func (t *transaction) insert(b body) {
	t.write(nftMessage(unix.NFT_MSG_NEWRULE), unix.NLM_F_CREATE, t.proto, b)
}

// remove is to delete something, and an error if it is not there.
func (t *transaction) remove(kind int, b body) { t.write(nftMessage(kind), 0, t.proto, b) }

// errRefused says that a row was refused, and not what it needs to stand in.
type errRefused struct{ error }

func (e errRefused) Unwrap() error { return e.error }

// commit sends a transaction and waits until the kernel has taken or refused it.
func (c *conn) commit(t *transaction) error {
	askAck(t.buf[t.last:])
	last := t.seq
	t.write(unix.NFNL_MSG_BATCH_END, 0, nfgenmsg{2: unix.NFNL_SUBSYS_NFTABLES >> 8, 3: unix.NFNL_SUBSYS_NFTABLES & 0xff}, nil)
	if err := c.send(t.buf); err != nil {
		return err
	}
	var failed error
	for {
		msgs, err := c.receive()
		if err != nil {
			return errors.Join(failed, err)
		}
		for _, m := range msgs {
			if m.Header.Type != unix.NLMSG_ERROR || m.Header.Seq < t.start || m.Header.Seq > t.seq {
				continue // of a dump that we gave up
			}
			if err := ackError(m); err != nil && failed == nil {
				failed = err
				if t.rows != 0 && m.Header.Seq >= t.rows {
					failed = errRefused{err}
				}
			}
			// A transaction that is refused as a whole is told as its first message.
			if m.Header.Seq == last || m.Header.Seq == t.start {
				return failed
			}
		}
	}
}
