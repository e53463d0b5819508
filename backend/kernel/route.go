package kernel

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// rtaNexthopID is RTA_NH_ID of linux/rtnetlink.h, which x/sys/unix has no name for.
const rtaNexthopID = 30

// routeDst is the destination of a route's message; not valid for a default
// route.
func routeDst(data []byte) netip.Prefix {
	attrs, err := parseAttributes(data[unix.SizeofRtMsg:])
	if dst := attrs.addr(unix.RTA_DST); err == nil && dst.IsValid() {
		return netip.PrefixFrom(dst, int(nl.DeserializeRtMsg(data).Dst_len))
	}
	return netip.Prefix{}
}

func (k *Kernel) routeMessage(e backend.Entry, do action, index func(string) (int, error)) (*nl.NetlinkRequest, error) {
	r := e.(backend.Route)
	if do == create && k.replaced.take(r.Key()) {
		do = replace
	}
	header := nl.NewRtMsg()
	header.Family = family(r.Dst.Addr())
	header.Dst_len = uint8(r.Dst.Bits())
	header.Protocol = Protocol
	kind := unix.RTM_NEWROUTE
	if do == remove {
		kind = unix.RTM_DELROUTE
		header.Scope = unix.RT_SCOPE_NOWHERE // any
	}
	if r.Onlink {
		header.Flags = unix.RTNH_F_ONLINK
	}
	req := request(kind, do.flags(), header)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	if do == remove {
		return req, nil
	}
	if r.Nexthop != 0 {
		req.AddData(nl.NewRtAttr(rtaNexthopID, nl.Uint32Attr(r.Nexthop)))
		return req, nil
	}
	i, err := index(r.Dev)
	if err != nil {
		return nil, err
	}
	req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(i))))
	return req, nil
}

// dumpRoutes adds the routes of our protocol in the main table.
func (k *Kernel) dumpRoutes(have backend.State) error {
	name := k.name()
	for _, f := range []uint8{unix.AF_INET, unix.AF_INET6} {
		filter := nl.NewRtMsg()
		filter.Family, filter.Protocol = f, Protocol
		filter.Scope, filter.Type = 0, 0
		var rows []backend.Entry
		err := k.conn.dump(unix.RTM_GETROUTE, filter, func() { rows = rows[:0] }, func(m syscall.NetlinkMessage) error {
			r, ours, err := parseRoute(m.Data, name)
			if ours {
				rows = append(rows, r)
			}
			return err
		})
		if err != nil {
			return err
		}
		have.Add(rows...)
	}
	return nil
}

func parseRoute(data []byte, name func(int) string) (r backend.Route, ours bool, err error) {
	if len(data) < unix.SizeofRtMsg {
		return r, false, unix.EBADMSG
	}
	row := nl.DeserializeRtMsg(data)
	if row.Protocol != Protocol || row.Table != unix.RT_TABLE_MAIN || row.Flags&unix.RTM_F_CLONED != 0 {
		return r, false, nil
	}
	attrs, err := parseAttributes(data[unix.SizeofRtMsg:])
	if err != nil {
		return r, false, err
	}
	dst := attrs.addr(unix.RTA_DST)
	if !dst.IsValid() {
		return r, false, nil // a default route is never ours
	}
	r = backend.Route{Dst: netip.PrefixFrom(dst, int(row.Dst_len)), Nexthop: attrs.uint32(rtaNexthopID)}
	if r.Nexthop == 0 {
		r.Via = attrs.addr(unix.RTA_GATEWAY)
		r.Dev = name(int(attrs.uint32(unix.RTA_OIF)))
		r.Onlink = row.Flags&unix.RTNH_F_ONLINK != 0
	}
	return r, true, nil
}

// name returns a function that finds a device's name and asks the kernel once
// for each index. A device that is gone has a name that no row wants.
func (k *Kernel) name() func(index int) string {
	known := map[int]string{}
	return func(index int) string {
		if name, ok := known[index]; ok {
			return name
		}
		known[index] = fmt.Sprintf("if%d", index)
		if link, err := k.links.LinkByIndex(index); err == nil {
			known[index] = link.Attrs().Name
		}
		return known[index]
	}
}
