package kernel

import (
	"errors"
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

func dumpNeighs(c *conn, have, want backend.State, index map[int]string) error {
	return errors.Join(dumpNd(c, have, want, index, unix.AF_INET), dumpNd(c, have, want, index, unix.AF_INET6))
}

func dumpFDB(c *conn, have, want backend.State, index map[int]string) error {
	return dumpNd(c, have, want, index, unix.AF_BRIDGE)
}

// dumpNd adds the permanent rows of our devices.
func dumpNd(c *conn, have, want backend.State, index map[int]string, family uint8) error {
	for i := range index {
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
			// A kernel that does not filter tells of other devices as well.
			e, permanent, err := parseNd(m.Data, index)
			if permanent && ifindex(m.Data) == i {
				rows = append(rows, want.Same(e))
			}
			return err
		}, filter...)
		if err != nil {
			return err
		}
		have.Add(rows...)
	}
	return nil
}

// parseNd reads a row of a device of ours; e is nil if it is another's. Only
// permanent rows are as we want them, and only those does a dump tell.
func parseNd(data []byte, index map[int]string) (e backend.Entry, permanent bool, err error) {
	const size = int(unsafe.Sizeof(netlink.Ndmsg{}))
	if len(data) < size {
		return nil, false, unix.EBADMSG
	}
	row := (*netlink.Ndmsg)(unsafe.Pointer(&data[0]))
	dev := index[int(row.Index)]
	if dev == "" {
		return nil, false, nil
	}
	attrs, err := parseAttributes(data[size:])
	if err != nil {
		return nil, false, err
	}
	var mac backend.MAC // not known to a row that failed
	copy(mac[:], attrs[netlink.NDA_LLADDR])
	dst := attrs.addr(netlink.NDA_DST)
	permanent = row.State&netlink.NUD_PERMANENT != 0
	switch {
	case row.Family == unix.AF_BRIDGE && row.Flags&unix.NTF_SELF == 0:
		return nil, false, nil // of the bridge that somebody put the device into
	case row.Family == unix.AF_BRIDGE:
		// The kernel tells of these alone where they are not the device's own.
		other := attrs[netlink.NDA_PORT] != nil || attrs[netlink.NDA_VNI] != nil || attrs[netlink.NDA_IFINDEX] != nil
		return backend.FDB{Dev: dev, MAC: mac, Dst: dst, Other: other}, permanent, nil
	case !dst.IsValid():
		return nil, false, nil
	case !permanent:
		mac = backend.MAC{} // unlike any that is wanted
	}
	return backend.Neigh{Dev: dev, IP: dst, MAC: mac}, permanent, nil
}
