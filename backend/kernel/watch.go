package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// groups are the tables whose changes are told: RTNLGRP_* of rtnetlink(7).
var groups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEXTHOP,
	unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// Listener hears of changes in the kernel.
type Listener interface {
	// Heard tells that a row of a device of ours was set, or is gone. It may
	// have been our own doing.
	Heard(row backend.Entry, gone bool)
	// Wake tells that rows of ours of these kinds were, or may have been,
	// changed by others.
	Wake(backend.Kinds)
	// Moved tells that an address of this host, or the underlay's device, may
	// have changed.
	Moved()
}

// Watch tells l about changes in the kernel until ctx ends, and returns the
// error of ctx then. It begins with Moved, for what came before was not heard.
// Changes of rules are heard by WatchRules.
func (k *Kernel) Watch(ctx context.Context, l Listener) error {
	// Whoever looked at the host before may have done so long ago.
	lost := func() { l.Wake(backend.AllKinds); l.Moved() }
	return hear(ctx, hearBuffer, unix.NETLINK_ROUTE, groups, l.Moved, lost, func(m syscall.NetlinkMessage) {
		// The kernel tells who made a change of a link or a route, but not of an
		// FDB row nor of all others.
		if m.Header.Pid != k.conn.port {
			k.tell(l, m)
		}
	})
}

// hearBuffer is how much the kernel may keep for us while we do not listen: what
// our own start in a large cluster causes.
const hearBuffer = 64 << 20

// hear calls each for every message of some netlink groups until ctx ends, begun when
// it hears them from then on, and lost when there were more than a buffer of that
// many bytes has room for.
func hear(ctx context.Context, buffer, protocol int, groups []uint, begun, lost func(), each func(syscall.NetlinkMessage)) error {
	sock, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return fmt.Errorf("subscribe to kernel changes: %w", err)
	}
	var closed atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		closed.Store(true)
		sock.Close()
	})
	defer func() {
		if stop() {
			sock.Close()
		}
	}()
	_ = sock.SetReceiveBufferSize(buffer, true) // needs a privilege; without it more is lost
	begun()
	for {
		msgs, from, err := sock.Receive()
		switch {
		case closed.Load():
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("receive kernel changes: %w", err)
		case from.Pid != 0:
			continue // not from the kernel
		}
		for _, m := range msgs {
			each(m)
		}
	}
}

// devices are those whose changes matter: ours and the underlay's.
type devices struct {
	names   map[string]bool
	ours    map[int]string
	byIndex map[int]string         // ours and the underlay's
	bridges map[int]backend.Bridge // as they should be
}

// name is a device's, or one that no row wants.
func (d *devices) name(index int) string {
	if name := d.byIndex[index]; name != "" {
		return name
	}
	return fmt.Sprintf("if%d", index)
}

// watch notes which devices matter from now on: ours, the pods' bridges, and those
// that our rows name.
func (k *Kernel) watch(want backend.State, ours map[int]string, bridges map[int]backend.Bridge) {
	d := &devices{names: map[string]bool{}, ours: ours, byIndex: maps.Clone(ours), bridges: bridges}
	index := k.index()
	for _, e := range want {
		d.add(e, index)
	}
	k.watched.Store(d)
}

// watchMore notes devices that matter because of rows that are wanted since the
// last Dump.
func (k *Kernel) watchMore(changes []backend.Change) {
	d := k.watched.Load()
	if d == nil {
		return
	}
	more := slices.IndexFunc(changes, func(c backend.Change) bool {
		name := dependsOn(c.Want)
		return name != "" && !d.names[name]
	})
	if more < 0 {
		return
	}
	now := *d
	now.names, now.byIndex = maps.Clone(d.names), maps.Clone(d.byIndex)
	index := k.index()
	for _, c := range changes[more:] {
		now.add(c.Want, index)
	}
	k.watched.Store(&now)
}

func (d *devices) add(e backend.Entry, index func(string) (int, error)) {
	names := []string{dependsOn(e)}
	if l, ok := e.(backend.Link); ok {
		names = append(names, l.Name)
	}
	for _, name := range names {
		if name == "" || d.names[name] {
			continue
		}
		d.names[name] = true
		if i, err := index(name); err == nil {
			d.byIndex[i] = name
		}
	}
}

// dependsOn is the device that a row names, if it may be another's than ours.
func dependsOn(e backend.Entry) string {
	switch e := e.(type) {
	case backend.Sysctl:
		return e.Dev()
	case backend.Link:
		return e.Underlay
	case backend.Nexthop:
		return e.Dev
	case backend.Route:
		return e.Dev
	}
	return ""
}

// tell tells a change, if it may be of one of our rows or of what they depend
// on. What cannot be told apart concerns us.
func (k *Kernel) tell(l Listener, m syscall.NetlinkMessage) {
	d := k.watched.Load()
	if d == nil { // a first look may be under way, and have missed it
		l.Moved()
		l.Wake(backend.Network)
		return
	}
	switch m.Header.Type {
	case unix.RTM_NEWNETCONF:
		// struct netconfmsg is a byte, padded; then come NETCONFA_IFINDEX and others.
		const size, index, all = 4, 1, 0xffffffff
		if attrs, err := parseAttributes(m.Data[min(size, len(m.Data)):]); err != nil || attrs.uint32(index) == all || d.byIndex[int(attrs.uint32(index))] != "" {
			l.Wake(backend.Settings)
		}
		return
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			break
		}
		row := nl.DeserializeRtMsg(m.Data)
		// Whoever replaces our route is told as the one who put the new one.
		replaces := m.Header.Flags&unix.NLM_F_REPLACE != 0
		switch {
		case row.Table != unix.RT_TABLE_MAIN:
			return
		case row.Protocol == Protocol:
			if k.isStrangers(m.Data, d) {
				return
			}
		case m.Header.Type == unix.RTM_DELROUTE:
			// It may have been in the way of one of ours.
			if dst := routeDst(m.Data); dst.IsValid() {
				l.Heard(backend.Route{Dst: dst}, true)
			}
			return
		case !replaces:
			return
		default:
			if dst := routeDst(m.Data); dst.IsValid() {
				k.replaced.note(backend.Route{Dst: dst}, row.Protocol)
			}
		}
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		if len(m.Data) < sizeofNhmsg {
			break
		}
		protocol := (*nhmsg)(unsafe.Pointer(&m.Data[0])).Protocol
		attrs, err := parseAttributes(m.Data[sizeofNhmsg:])
		row := backend.Nexthop{ID: attrs.uint32(unix.NHA_ID)}
		switch {
		case err != nil:
		case protocol == Protocol:
			if k.isStrangersNexthop(m.Data, d) {
				return
			}
		case m.Header.Type == unix.RTM_DELNEXTHOP:
			l.Heard(row, true) // it may have been in the way of one of ours
			return
		case m.Header.Flags&unix.NLM_F_REPLACE == 0:
			return
		default:
			k.replaced.note(row, protocol)
		}
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		row, _, err := parseNd(m.Data, d.ours)
		if row != nil {
			l.Heard(row, m.Header.Type == unix.RTM_DELNEIGH)
		}
		if err == nil {
			return
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		row, err := parseAddr(m.Data, d.ours)
		if row != nil {
			l.Heard(row, m.Header.Type == unix.RTM_DELADDR)
		}
		if row == nil {
			l.Moved()
		}
		if err == nil && (row != nil || d.byIndex[ifindex(m.Data)] == "") {
			return
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			break
		}
		if b, ok := d.bridges[ifindex(m.Data)]; ok {
			// It changes with every pod; its MTU does not.
			if attrs, err := parseAttributes(m.Data[unix.SizeofIfInfomsg:]); err == nil {
				if mtu := int(attrs.uint32(unix.IFLA_MTU)); mtu != b.MTU {
					l.Heard(backend.Bridge{Addr: b.Addr, MTU: mtu, Unfit: true}, false)
				}
				return
			}
		}
		if d.ours[ifindex(m.Data)] != "" {
			link, err := netlink.LinkDeserialize((*unix.NlMsghdr)(&m.Header), m.Data)
			if v, ok := link.(*netlink.Vxlan); ok && err == nil {
				l.Heard(entry(v, d.name), m.Header.Type == unix.RTM_DELLINK)
				return
			}
		}
		if d.byIndex[ifindex(m.Data)] != "" {
			l.Moved()
			break
		}
		attrs, err := parseAttributes(m.Data[unix.SizeofIfInfomsg:])
		if err == nil && !d.names[nl.BytesToString(attrs[unix.IFLA_IFNAME])] {
			return
		}
		l.Moved()
	}
	l.Wake(backend.Network)
}

// ifindex is the device's index in struct ndmsg, ifinfomsg or ifaddrmsg: bytes 4
// to 7 in each of them.
func ifindex(data []byte) int {
	if len(data) < 8 {
		return 0
	}
	return int(nl.NativeEndian().Uint32(data[4:]))
}
