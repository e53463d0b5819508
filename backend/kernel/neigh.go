package kernel

import (
	"net/netip"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// Neighbours and FDB rows share the messages of rtnetlink(7); an FDB row is a
// neighbour of the family AF_BRIDGE.

func neighMessage(e backend.Entry, do action, index func(string) (int, error)) (*nl.NetlinkRequest, error) {
	n := e.(backend.Neigh)
	i, err := index(n.Dev)
	if err != nil {
		return nil, err
	}
	return ndRequest(do, netlink.Ndmsg{
		Family: family(n.IP), Index: uint32(i), State: netlink.NUD_PERMANENT, Type: unix.RTN_UNICAST,
	}, n.IP, n.MAC), nil
}

func fdbMessage(e backend.Entry, do action, index func(string) (int, error)) (*nl.NetlinkRequest, error) {
	f := e.(backend.FDB)
	i, err := index(f.Dev)
	if err != nil {
		return nil, err
	}
	return ndRequest(do, netlink.Ndmsg{
		Family: unix.AF_BRIDGE, Index: uint32(i), State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: unix.NTF_SELF,
	}, f.Dst, f.MAC), nil
}

func ndRequest(do action, header netlink.Ndmsg, dst netip.Addr, mac backend.MAC) *nl.NetlinkRequest {
	if do == remove {
		req := request(unix.RTM_DELNEIGH, 0, &header)
		req.AddData(nl.NewRtAttr(netlink.NDA_DST, dst.AsSlice()))
		if header.Family == unix.AF_BRIDGE {
			req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, mac[:]))
		}
		return req
	}
	// All rows of our device are ours, and the kernel itself puts a neighbour
	// there when it has to ask for one: so a row is set, whatever it was.
	req := request(unix.RTM_NEWNEIGH, replace.flags(), &header)
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, dst.AsSlice()))
	req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, mac[:]))
	return req
}

func dumpNeighs(c *conn, have backend.State, index map[int]string) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := dumpNd(c, have, index, family, func(dev string, state uint16, dst netip.Addr, mac backend.MAC) backend.Entry {
			if state&netlink.NUD_PERMANENT == 0 || !dst.IsValid() {
				return nil
			}
			return backend.Neigh{Dev: dev, IP: dst, MAC: mac}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func dumpFDB(c *conn, have backend.State, index map[int]string) error {
	return dumpNd(c, have, index, unix.AF_BRIDGE, func(dev string, state uint16, dst netip.Addr, mac backend.MAC) backend.Entry {
		if state&netlink.NUD_PERMANENT == 0 {
			return nil
		}
		return backend.FDB{Dev: dev, MAC: mac, Dst: dst}
	})
}

// dumpNd adds the rows of our devices for which entry is not nil.
func dumpNd(c *conn, have backend.State, index map[int]string, family uint8,
	entry func(dev string, state uint16, dst netip.Addr, mac backend.MAC) backend.Entry,
) error {
	for i, dev := range index {
		// With an index the kernel leaves out the rows of all other devices. How
		// to give it differs: in the header for the FDB, as an attribute else.
		header := netlink.Ndmsg{Family: family}
		var filter []nl.NetlinkRequestData
		if family == unix.AF_BRIDGE {
			header.Index = uint32(i)
		} else {
			filter = append(filter, nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(i))))
		}
		var rows []backend.Entry
		err := c.dump(unix.RTM_GETNEIGH, &header, func() { rows = rows[:0] }, func(m syscall.NetlinkMessage) error {
			const size = int(unsafe.Sizeof(netlink.Ndmsg{}))
			if len(m.Data) < size {
				return unix.EBADMSG
			}
			row := (*netlink.Ndmsg)(unsafe.Pointer(&m.Data[0]))
			if int(row.Index) != i || row.Family != family {
				return nil // a kernel that does not filter
			}
			attrs, err := parseAttributes(m.Data[size:])
			if err != nil || len(attrs[netlink.NDA_LLADDR]) != len(backend.MAC{}) {
				return err
			}
			if e := entry(dev, row.State, attrs.addr(netlink.NDA_DST), backend.MAC(attrs[netlink.NDA_LLADDR])); e != nil {
				rows = append(rows, e)
			}
			return nil
		}, filter...)
		if err != nil {
			return err
		}
		have.Add(rows...)
	}
	return nil
}
