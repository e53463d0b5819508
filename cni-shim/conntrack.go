package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// flows chooses UDP flows that connection tracking remembers: those whose first
// packet (or, when Reply is set, whose answer) has the source Src and the
// destination port DstPort. Fields that are zero match all, but not both may be.
type flows struct {
	Family  subnet.Family
	Reply   bool
	Src     netip.Addr
	DstPort uint16
}

// Of linux/netfilter/nfnetlink_conntrack.h, since Linux 5.7.
const (
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2

	filterSrc     = 1 << 0
	filterProto   = 1 << 3
	filterDstPort = 1 << 5
)

// tracker is a way to connection tracking.
type tracker struct{ sockets map[int]*nl.SocketHandle }

// openTracker returns the zero tracker, which remembers nothing, where the kernel
// has no netfilter.
func openTracker() (tracker, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return tracker{}, nil
	}
	if err != nil {
		return tracker{}, fmt.Errorf("open connection tracking: %w", err)
	}
	return tracker{map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}}, nil
}

func (t tracker) close() {
	for _, s := range t.sockets {
		s.Close()
	}
}

// forget makes connection tracking forget flows, all of one family. The kernel looks for
// them itself since Linux 6.6. On an older one the table is read, and so it is where they are
// many: once through it is less work then.
func (t tracker) forget(family subnet.Family, all ...flows) error {
	if t.sockets == nil || len(all) == 0 {
		return nil
	}
	const few = 8
	if len(all) > few {
		return forgetByTable(family, all)
	}
	for _, f := range all {
		err := t.forgetInKernel(f)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return forgetByTable(family, all)
		default:
			return fmt.Errorf("forget UDP flows: %w", err)
		}
	}
	return nil
}

// forgetByTable reads the table of a family and forgets the flows in it.
func forgetByTable(family subnet.Family, all flowList) error {
	_, err := dump(func() (uint, error) {
		return netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(nfFamily(family)), all)
	})
	// Where the kernel has nftables and no way to its connection tracking, nobody can forget.
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("forget UDP flows: %w", err)
	}
	return nil
}

// flowList is a filter for the library.
type flowList []flows

// MatchConntrackFlow is asked for each entry of the table.
func (l flowList) MatchConntrackFlow(have *netlink.ConntrackFlow) bool {
	return have.Forward.Protocol == unix.IPPROTO_UDP && slices.ContainsFunc(l, func(f flows) bool {
		src := have.Forward.SrcIP
		if f.Reply {
			src = have.Reverse.SrcIP
		}
		return (!f.Src.IsValid() || src.Equal(f.Src.AsSlice())) && (f.DstPort == 0 || f.DstPort == have.Forward.DstPort)
	})
}

func nfFamily(f subnet.Family) uint8 { return [2]uint8{unix.AF_INET, unix.AF_INET6}[f] }

// forgetInKernel sends one message. A kernel that does not know the filter takes
// the tuple for a whole one and refuses it, since it has no ports: it never
// takes the message for one that means everything.
func (t tracker) forgetInKernel(f flows) error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	// With version 0 the kernel would not look at the family.
	req.AddData(&nl.Nfgenmsg{NfgenFamily: nfFamily(f.Family), Version: 1})

	tuple, which := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil), uint16(ctaFilterOrigFlags)
	if f.Reply {
		tuple, which = nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_REPLY, nil), ctaFilterReplyFlags
	}
	flags := uint32(filterProto)
	if f.Src.IsValid() {
		flags |= filterSrc
		kind := [2]int{nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC}[f.Family]
		tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(kind, f.Src.AsSlice())
	}
	proto := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	if f.DstPort != 0 {
		flags |= filterDstPort
		proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, []byte{byte(f.DstPort >> 8), byte(f.DstPort)})
	}
	filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	filter.AddRtAttr(int(which), nl.Uint32Attr(flags))
	req.AddData(tuple)
	req.AddData(filter)
	req.Sockets = t.sockets
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// flushPod forgets what was said from and to the address of a pod that is gone, so
// that the next one with this address gets no stranger's answers.
func (t tracker) flushPod(addr netip.Addr) error {
	family := subnet.FamilyOf(addr)
	return t.forget(family, flows{Family: family, Src: addr}, flows{Family: family, Src: addr, Reply: true})
}

// flushMapped forgets flows to UDP ports that have just been mapped: the kernel
// would go on to send them where they went before.
func (t tracker) flushMapped(ports []portMapping, addrs []address) error {
	var errs []error
	for _, a := range addrs {
		var all []flows
		family := subnet.FamilyOf(a.Prefix.Addr())
		for _, p := range ports {
			if p.Protocol == unix.IPPROTO_UDP && p.covers(family) {
				all = append(all, flows{Family: family, DstPort: p.HostPort})
			}
		}
		errs = append(errs, t.forget(family, all...))
	}
	return errors.Join(errs...)
}
