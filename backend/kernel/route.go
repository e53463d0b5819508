package kernel

import (
	"errors"
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
	if r.Via.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	}
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(i))))
	return req, nil
}

// errNexthopRefused says that a route would lead to whatever has the id of its
// nexthop object.
var errNexthopRefused = errors.New("its nexthop object was refused")

// lacks reports whether the kernel refused a route's nexthop object.
func (b *batch) lacks(r backend.Route) bool {
	if r.Nexthop == 0 {
		return false
	}
	if b.nexthops {
		b.flush()
	}
	return b.refused[backend.Nexthop{ID: r.Nexthop}.Key()]
}

// addWay adds the change of a nexthop object or of a route.
//
// Linux refuses a gateway for IPv6, "onlink" or not, to which it has a route by
// another device, such as the very route that is to be changed. So for that moment
// there is one by the right device.
func (k *Kernel) addWay(b *batch, c backend.Change, m message) error {
	if r, ok := c.Want.(backend.Route); ok && b.lacks(r) {
		b.refuse(c, errNexthopRefused)
		return nil
	}
	via, dev := onlinkGateway(c.Want)
	if !c.Replaces() || !via.Is6() {
		return b.add(c, m)
	}
	way := backend.Route{Dst: netip.PrefixFrom(via, via.BitLen()), Dev: dev}
	return errors.Join(
		b.add(backend.Change{Have: way, Want: way}, k.routeMessage),
		b.add(c, m),
		b.add(backend.Change{Have: way}, k.routeMessage),
	)
}

// onlinkGateway is the gateway of a row that is on a device whatever routes say;
// not valid for others.
func onlinkGateway(e backend.Entry) (netip.Addr, string) {
	switch e := e.(type) {
	case backend.Nexthop:
		if e.Onlink {
			return e.Via, e.Dev
		}
	case backend.Route:
		if e.Onlink {
			return e.Via, e.Dev
		}
	}
	return netip.Addr{}, ""
}

// listRoutes lists those of our protocol in the main table, whosever they are.
func (k *Kernel) listRoutes(want backend.State, name func(int) string) ([]backend.Entry, error) {
	var all []backend.Entry
	for _, f := range []uint8{unix.AF_INET, unix.AF_INET6} {
		filter := nl.NewRtMsg()
		filter.Family, filter.Protocol = f, Protocol
		filter.Scope, filter.Type = 0, 0
		before := len(all)
		err := k.conn.dump(unix.RTM_GETROUTE, filter, func() { all = all[:before] }, func(m syscall.NetlinkMessage) error {
			r, marked, err := parseRoute(m.Data, name)
			if marked {
				all = append(all, want.Same(r))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// parseRoute reads a route, and tells whether it is marked with our protocol.
func parseRoute(data []byte, name func(int) string) (r backend.Route, marked bool, err error) {
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
