package kernel

import (
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

func addrMessage(e backend.Entry, do action, index func(string) (int, error)) (*nl.NetlinkRequest, error) {
	a := e.(backend.Addr)
	i, err := index(a.Dev)
	if err != nil {
		return nil, err
	}
	header := &nl.IfAddrmsg{IfAddrmsg: unix.IfAddrmsg{
		Family: family(a.Prefix.Addr()), Prefixlen: uint8(a.Prefix.Bits()), Index: uint32(i),
	}}
	kind := unix.RTM_NEWADDR
	if do == remove {
		kind = unix.RTM_DELADDR
	}
	req := request(kind, do.flags(), header)
	// Nobody else is on the link who could have the address, so an IPv6 address
	// need not be looked for before it is used.
	req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD)))
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.Prefix.Addr().AsSlice()))
	return req, nil
}

// dumpAddrs adds the addresses of our devices.
func dumpAddrs(c *conn, have backend.State, index map[int]string) error {
	var rows []backend.Entry
	err := c.dump(unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC), func() { rows = rows[:0] }, func(m syscall.NetlinkMessage) error {
		e, err := parseAddr(m.Data, index)
		if e != nil {
			rows = append(rows, e)
		}
		return err
	})
	have.Add(rows...)
	return err
}

// parseAddr reads an address of a device of ours. It is nil if it is another's,
// or one of the link-local ones that the kernel gives to every device.
func parseAddr(data []byte, index map[int]string) (backend.Entry, error) {
	if len(data) < unix.SizeofIfAddrmsg {
		return nil, unix.EBADMSG
	}
	row := nl.DeserializeIfAddrmsg(data)
	dev, ours := index[int(row.Index)]
	if !ours {
		return nil, nil
	}
	attrs, err := parseAttributes(data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return nil, err
	}
	addr := attrs.addr(unix.IFA_LOCAL)
	if !addr.IsValid() {
		addr = attrs.addr(unix.IFA_ADDRESS) // IPv6 addresses without a peer
	}
	if !addr.IsValid() || addr.Is6() && addr.IsLinkLocalUnicast() {
		return nil, nil
	}
	return backend.Addr{Dev: dev, Prefix: netip.PrefixFrom(addr, int(row.Prefixlen))}, nil
}
