package look

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/internal/trace"
)

var (
	routeTypes = map[int]string{
		unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast",
		unix.RTN_MULTICAST: "multicast", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable",
		unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
	}
	tableNames    = map[int]string{unix.RT_TABLE_MAIN: "main", unix.RT_TABLE_LOCAL: "local", unix.RT_TABLE_DEFAULT: "default"}
	protocolNames = map[int]string{unix.RTPROT_REDIRECT: "redirect", unix.RTPROT_KERNEL: "kernel", unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static", unix.RTPROT_RA: "ra", unix.RTPROT_DHCP: "dhcp", unix.RTPROT_BIRD: "bird", unix.RTPROT_ZEBRA: "zebra", unix.RTPROT_BGP: "bgp"}
)

func word(words map[int]string, n int) string {
	if w, ok := words[n]; ok {
		return w
	}
	return strconv.Itoa(n)
}

// rtaNexthopID is RTA_NH_ID of linux/rtnetlink.h, which x/sys/unix has no name for.
const rtaNexthopID = 30

// Route implements trace.World: it asks the kernel which row of its tables it
// would use (RTM_F_FIB_MATCH of rtnetlink(7)).
func (h *Host) Route(q trace.Question) (trace.Route, error) {
	matched, several, err := h.ask(q, unix.RTM_F_LOOKUP_TABLE|unix.RTM_F_FIB_MATCH)
	if err != nil {
		if r, ok := h.refusing(q, err); ok {
			return r, nil
		}
		return trace.Route{}, because(err)
	}
	// What the kernel has learnt of the way is not in the row, nor which one of
	// several ways it takes.
	if used, _, err := h.ask(q, unix.RTM_F_LOOKUP_TABLE); err == nil {
		matched.MTU = used.MTU
		if matched.Dev == "" || several {
			matched.Dev, matched.Via = used.Dev, used.Via
		}
	}
	return matched, nil
}

func because(err error) error {
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return errors.New("no route has it")
	case errors.Is(err, unix.EHOSTUNREACH):
		return errors.New("no route has it, or one that says unreachable")
	case errors.Is(err, unix.EACCES):
		return errors.New("a route prohibits it")
	case errors.Is(err, unix.EINVAL):
		return errors.New("a blackhole has it, or no packet may have these addresses")
	case errors.Is(err, unix.EXDEV):
		return errors.New("rp_filter refuses its source")
	}
	return err
}

// ask asks the kernel for a route. several is whether it has more than one
// nexthop; the first is told.
func (h *Host) ask(q trace.Question, flags uint32) (r trace.Route, several bool, err error) {
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len, msg.Flags = unix.AF_INET, uint8(q.Dst.BitLen()), flags
	if q.Dst.Is6() {
		msg.Family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	if q.Src.IsValid() {
		msg.Src_len = uint8(q.Src.BitLen())
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, q.Dst.AsSlice()))
	if q.Src.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, q.Src.AsSlice()))
	}
	if q.In != "" {
		index, ok := h.index(q.In)
		if !ok {
			return trace.Route{}, false, fmt.Errorf("no device %s", q.In)
		}
		req.AddData(nl.NewRtAttr(unix.RTA_IIF, nl.Uint32Attr(uint32(index))))
	}
	if q.Mark != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_MARK, nl.Uint32Attr(q.Mark)))
	}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return trace.Route{}, false, err
	}
	if len(answers) == 0 {
		return trace.Route{}, false, errors.New("the kernel gave no answer")
	}
	return h.parse(answers[0])
}

func (h *Host) index(name string) (int, bool) {
	for i, n := range h.names {
		if n == name {
			return i, true
		}
	}
	return 0, false
}

func (h *Host) parse(data []byte) (r trace.Route, several bool, err error) {
	if len(data) < unix.SizeofRtMsg {
		return trace.Route{}, false, unix.EBADMSG
	}
	row := nl.DeserializeRtMsg(data)
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	if err != nil {
		return trace.Route{}, false, err
	}
	r = trace.Route{Type: word(routeTypes, int(row.Type)), Protocol: word(protocolNames, int(row.Protocol)), Table: word(tableNames, int(row.Table))}
	dst := netip.IPv4Unspecified()
	if row.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_DST:
			dst = addr(a.Value)
		case unix.RTA_TABLE:
			r.Table = word(tableNames, int(nl.NativeEndian().Uint32(a.Value)))
		case unix.RTA_OIF:
			r.Dev = h.names[int(nl.NativeEndian().Uint32(a.Value))]
		case unix.RTA_GATEWAY:
			r.Via = addr(a.Value)
		case unix.RTA_VIA:
			r.Via = addr(a.Value[min(2, len(a.Value)):]) // behind the family
		case unix.RTA_PREFSRC:
			r.Src = addr(a.Value)
		case rtaNexthopID:
			r.NexthopID = nl.NativeEndian().Uint32(a.Value)
		case unix.RTA_MULTIPATH:
			several = true
			h.firstPath(&r, a.Value)
		case unix.RTA_METRICS:
			r.MTU = metric(a)
		}
	}
	r.Dst = netip.PrefixFrom(dst, int(row.Dst_len))
	if r.Type == "local" || r.Type == "broadcast" {
		r.Table = "local" // which the kernel keeps in one with the main table
	}
	return r, several, nil
}

// firstPath notes the first of several nexthops.
func (h *Host) firstPath(r *trace.Route, data []byte) {
	if len(data) < unix.SizeofRtNexthop {
		return
	}
	size := int(nl.NativeEndian().Uint16(data))
	r.Dev = h.names[int(nl.NativeEndian().Uint32(data[4:]))]
	if size > len(data) {
		return
	}
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtNexthop:size])
	if err != nil {
		return
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_GATEWAY {
			r.Via = addr(a.Value)
		}
	}
}

func metric(a syscall.NetlinkRouteAttr) int {
	inner, err := nl.ParseRouteAttr(a.Value)
	if err != nil {
		return 0
	}
	for _, m := range inner {
		if m.Attr.Type == unix.RTAX_MTU {
			return int(nl.NativeEndian().Uint32(m.Value))
		}
	}
	return 0
}

// refusals are the types of routes and of policy rules that let nothing pass, by
// the error that the kernel answers with: it says no more.
var refusals = map[unix.Errno]int{unix.EINVAL: unix.RTN_BLACKHOLE, unix.EACCES: unix.RTN_PROHIBIT, unix.EHOSTUNREACH: unix.RTN_UNREACHABLE, unix.ENETUNREACH: unix.RTN_UNREACHABLE}

// refusing finds what lets a packet not pass: a policy rule, or the most exact
// route to its destination.
func (h *Host) refusing(q trace.Question, err error) (trace.Route, bool) {
	var no unix.Errno
	if !errors.As(err, &no) || refusals[no] == 0 {
		return trace.Route{}, false
	}
	kind := refusals[no]
	if r, ok := h.rule(q, kind); ok || no == unix.ENETUNREACH { // of a route it is another error
		return r, ok
	}
	rows, err := netlink.RouteListFiltered(family(q.Dst), &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return trace.Route{}, false
	}
	best := trace.Route{}
	found := false
	for _, r := range rows {
		p := prefix(r.Dst, q.Dst)
		if r.Type == kind && p.Contains(q.Dst) && (!found || p.Bits() > best.Dst.Bits()) {
			best, found = trace.Route{Dst: p, Type: word(routeTypes, r.Type), Table: word(tableNames, r.Table), Protocol: word(protocolNames, int(r.Protocol))}, true
		}
	}
	return best, found
}

// prefix is that of a row; without one it has all addresses like another.
func prefix(n *net.IPNet, like netip.Addr) netip.Prefix {
	if n == nil {
		return netip.PrefixFrom(like, 0).Masked()
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr(n.IP), bits)
}
