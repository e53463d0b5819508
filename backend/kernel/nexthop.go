package kernel

import (
	"errors"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// Nexthop objects, which netlink v1.3 has no call for. The messages are those of
// linux/nexthop.h.

// nhmsg is the kernel's struct nhmsg.
type nhmsg struct {
	Family   uint8
	Scope    uint8
	Protocol uint8
	_        uint8
	Flags    uint32
}

const sizeofNhmsg = int(unsafe.Sizeof(nhmsg{}))

func (m *nhmsg) Len() int { return sizeofNhmsg }

func (m *nhmsg) Serialize() []byte { return (*[sizeofNhmsg]byte)(unsafe.Pointer(m))[:] }

func (k *Kernel) nexthopMessage(e backend.Entry, do action, index func(string) (int, error)) (*nl.NetlinkRequest, error) {
	n := e.(backend.Nexthop)
	if do == create && k.replaced.take(n.Key()) {
		do = replace
	}
	id := nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(n.ID))
	if do == remove {
		req := request(unix.RTM_DELNEXTHOP, 0, &nhmsg{})
		req.AddData(id)
		return req, nil
	}
	i, err := index(n.Dev)
	if err != nil {
		return nil, err
	}
	header := &nhmsg{Family: family(n.Via), Protocol: Protocol}
	if n.Onlink {
		header.Flags = unix.RTNH_F_ONLINK
	}
	req := request(unix.RTM_NEWNEXTHOP, do.flags(), header)
	req.AddData(id)
	req.AddData(nl.NewRtAttr(unix.NHA_OIF, nl.Uint32Attr(uint32(i))))
	req.AddData(nl.NewRtAttr(unix.NHA_GATEWAY, n.Via.AsSlice()))
	return req, nil
}

// hasNexthops reports whether the kernel knows the messages at all.
func hasNexthops(c *conn) (bool, error) {
	err := c.dump(unix.RTM_GETNEXTHOP, &nhmsg{}, func() {}, func(syscall.NetlinkMessage) error { return nil })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}

// listNexthops lists those of our protocol, whosever they are.
func (k *Kernel) listNexthops(want backend.State, name func(int) string) ([]backend.Entry, error) {
	if !k.nexthops {
		return nil, nil
	}
	var rows []backend.Entry
	err := k.conn.dump(unix.RTM_GETNEXTHOP, &nhmsg{}, func() { rows = rows[:0] }, func(m syscall.NetlinkMessage) error {
		if len(m.Data) < sizeofNhmsg {
			return unix.EBADMSG
		}
		row := (*nhmsg)(unsafe.Pointer(&m.Data[0]))
		if row.Protocol != Protocol {
			return nil
		}
		attrs, err := parseAttributes(m.Data[sizeofNhmsg:])
		if err != nil {
			return err
		}
		rows = append(rows, want.Same(backend.Nexthop{
			ID:     attrs.uint32(unix.NHA_ID),
			Via:    attrs.addr(unix.NHA_GATEWAY),
			Dev:    name(int(attrs.uint32(unix.NHA_OIF))),
			Onlink: row.Flags&unix.RTNH_F_ONLINK != 0,
		}))
		return nil
	})
	return rows, err
}
