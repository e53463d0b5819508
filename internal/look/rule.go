package look

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/internal/trace"
)

// mainPref is the priority of the policy rule that has the main table asked.
const mainPref = 32766

// invert is FIB_RULE_INVERT of linux/fib_rules.h.
const invert = 2

// policy is a policy rule, as far as it chooses packets by what is known of them.
type policy struct {
	kind     int // a table, or a type of routes that let nothing pass
	pref     int
	src, dst netip.Prefix // all: of no bits
	in       string
	mark     uint32
	mask     uint32
	other    bool // it asks for more than that
	not      bool
}

// policies are the policy rules of a family, in the order in which the kernel
// looks at them. netlink.RuleList does not tell what they do.
func (h *Host) policies(like netip.Addr) ([]policy, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(family(like)))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	if err != nil {
		return nil, err
	}
	var list []policy
	for _, data := range answers {
		if len(data) < unix.SizeofRtMsg {
			return nil, unix.EBADMSG
		}
		row := nl.DeserializeRtMsg(data)
		attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
		if err != nil {
			return nil, err
		}
		p := policy{kind: int(row.Type), not: row.Flags&invert != 0, src: prefix(nil, like), dst: prefix(nil, like), other: row.Tos != 0}
		for _, a := range attrs {
			switch a.Attr.Type {
			case nl.FRA_PRIORITY:
				p.pref = int(nl.NativeEndian().Uint32(a.Value))
			case nl.FRA_SRC:
				p.src = netip.PrefixFrom(addr(a.Value), int(row.Src_len))
			case nl.FRA_DST:
				p.dst = netip.PrefixFrom(addr(a.Value), int(row.Dst_len))
			case nl.FRA_IIFNAME:
				p.in = strings.TrimRight(string(a.Value), "\x00")
			case nl.FRA_FWMARK:
				p.mark = nl.NativeEndian().Uint32(a.Value)
			case nl.FRA_FWMASK:
				p.mask = nl.NativeEndian().Uint32(a.Value)
			case nl.FRA_OIFNAME, nl.FRA_UID_RANGE, nl.FRA_IP_PROTO, nl.FRA_SPORT_RANGE, nl.FRA_DPORT_RANGE, nl.FRA_TUN_ID, nl.FRA_L3MDEV:
				p.other = true
			}
		}
		list = append(list, p)
	}
	return list, nil
}

// chooses reports whether a policy rule is for a packet.
func (p policy) chooses(q trace.Question) bool {
	in := q.In
	if in == "" {
		in = "lo" // this host sends it
	}
	from := p.src.Bits() == 0 || q.Src.IsValid() && p.src.Contains(q.Src)
	return !p.other && (from && p.dst.Contains(q.Dst) && (p.in == "" || p.in == in) && q.Mark&p.mask == p.mark&p.mask) != p.not
}

func (p policy) String() string {
	text := fmt.Sprintf("pref %d", p.pref)
	if p.not {
		text += " not"
	}
	for _, end := range []struct {
		word   string
		prefix netip.Prefix
	}{{"from", p.src}, {"to", p.dst}} {
		if end.prefix.Bits() > 0 {
			text += fmt.Sprintf(" %s %s", end.word, end.prefix)
		}
	}
	if p.in != "" {
		text += " iif " + p.in
	}
	if p.mask != 0 {
		text += fmt.Sprintf(" fwmark %#x/%#x", p.mark, p.mask)
	}
	return text + " " + word(routeTypes, p.kind)
}

// rule finds the first policy rule before the main table that refuses a packet in
// the way of a type of routes.
func (h *Host) rule(q trace.Question, kind int) (trace.Route, bool) {
	var all []policy
	err := settled(func() (err error) { all, err = h.policies(q.Dst); return err })
	if err != nil {
		return trace.Route{}, false
	}
	for _, p := range all {
		if p.kind == kind && p.pref < mainPref && p.chooses(q) {
			return trace.Route{Dst: prefix(nil, q.Dst), Type: word(routeTypes, kind), Rule: p.String(), Pref: p.pref}, true
		}
	}
	return trace.Route{}, false
}

func family(a netip.Addr) int {
	if a.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}
