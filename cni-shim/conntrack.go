package main

import (
	"errors"
	"fmt"
	"net/netip"

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

// forget makes connection tracking forget the flows. The kernel looks for them
// itself since Linux 6.6; on an older one the table is read.
func (t tracker) forget(f flows) error {
	if t.sockets == nil {
		return nil
	}
	err := t.forgetInKernel(f)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("forget UDP flows: %w", err)
	}
	filter := &netlink.ConntrackFilter{}
	err = filter.AddProtocol(unix.IPPROTO_UDP)
	if f.Src.IsValid() {
		kind := netlink.ConntrackFilterType(netlink.ConntrackOrigSrcIP)
		if f.Reply {
			kind = netlink.ConntrackReplySrcIP
		}
		err = errors.Join(err, filter.AddIP(kind, f.Src.AsSlice()))
	}
	if f.DstPort != 0 {
		err = errors.Join(err, filter.AddPort(netlink.ConntrackOrigDstPort, f.DstPort))
	}
	if err != nil {
		return fmt.Errorf("forget UDP flows: %w", err)
	}
	return forgetByTable(f.Family, filter)
}

// forgetByTable reads the table of a family and forgets what the filter matches.
func forgetByTable(f subnet.Family, filter netlink.CustomConntrackFilter) error {
	_, err := dump(func() (uint, error) {
		return netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(nfFamily(f)), filter)
	})
	// Where the kernel has nftables and no way to its connection tracking, nobody can forget.
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("forget UDP flows: %w", err)
	}
	return nil
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
	return errors.Join(
		t.forget(flows{Family: family, Src: addr}),
		t.forget(flows{Family: family, Src: addr, Reply: true}),
	)
}

// mapped chooses UDP flows to ports that have been mapped. Once through the table is less
// work than once for each of many ports.
type mapped struct {
	family subnet.Family
	ports  map[uint16]bool
}

// MatchConntrackFlow is asked for each flow of the table.
func (m mapped) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return f.Forward.Protocol == unix.IPPROTO_UDP && m.ports[f.Forward.DstPort]
}

// flushMapped forgets flows to UDP ports that have just been mapped: the kernel
// would go on to send them where they went before.
func (t tracker) flushMapped(ports []portMapping, addrs []address) error {
	const few = 8
	var errs []error
	for _, a := range addrs {
		m := mapped{subnet.FamilyOf(a.Prefix.Addr()), map[uint16]bool{}}
		for _, p := range ports {
			if p.Protocol == unix.IPPROTO_UDP && p.covers(m.family) {
				m.ports[p.HostPort] = true
			}
		}
		if len(m.ports) > few && t.sockets != nil {
			errs = append(errs, forgetByTable(m.family, m))
			continue
		}
		for port := range m.ports {
			errs = append(errs, t.forget(flows{Family: m.family, DstPort: port}))
		}
	}
	return errors.Join(errs...)
}
