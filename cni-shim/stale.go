package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// young is the age under which a reservation of another plugin may belong to a
// pod that is being attached at this moment. tulle's own are locked meanwhile.
const young = time.Minute

// stale are those of the reservations whose pods are gone. The kernel is asked, not
// a list: a veth goes with the namespace of its pod.
//
//   - One that tulle made is alive while there is the veth whose name follows from
//     the container.
//   - host-local's does not lead to a veth. It is alive while its address is in a
//     namespace that a veth of this host leads into. If any veth leads to where we
//     see no address at all, as with runtimes that bring a network stack of their
//     own, it may be the pod's, and none of host-local's is taken for stale.
func (i *ipam) stale(h *netlink.Handle, all []reservation) ([]reservation, error) {
	l, err := i.list()
	if err != nil {
		return nil, err
	}
	links, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names, living, opaque := map[string]bool{}, map[netip.Addr]bool{}, false
	asked := map[int]bool{}
	for _, link := range links {
		a := link.Attrs()
		names[a.Name] = true
		if link.Type() != "veth" || a.NetNsID < 0 || isHostName(a.Name) || asked[a.NetNsID] {
			continue
		}
		asked[a.NetNsID] = true
		addrs, err := addrsInside(a.NetNsID)
		if err != nil {
			return nil, fmt.Errorf("list addresses behind %s: %w", a.Name, err)
		}
		for _, addr := range addrs {
			living[addr] = true
		}
		opaque = opaque || len(addrs) == 0
	}
	var gone []reservation
	for _, r := range all {
		if names[r.holder.hostName()] || living[r.addr] {
			continue
		}
		if !l.known[r.addr] && (opaque || i.isYoung(r.addr)) {
			continue
		}
		gone = append(gone, r)
	}
	return gone, nil
}

func (i *ipam) isYoung(addr netip.Addr) bool {
	var s unix.Stat_t
	err := unix.Fstatat(i.fd(), addr.String(), &s, unix.AT_SYMLINK_NOFOLLOW)
	return err != nil || time.Since(time.Unix(s.Mtim.Unix())) < young
}
