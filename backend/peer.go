package backend

import (
	"errors"
	"fmt"
	"net/netip"

	"tulle/subnet"
)

// CheckPeer returns an error if a peer's lease can't be one of this Network,
// looked at alone, whatever the Backend.
func (in Input) CheckPeer(l subnet.Lease) error {
	if !in.follows(l) {
		return fmt.Errorf("its backend is %q, ours is %q", l.Type, in.Network.Backend.Type)
	}
	if !in.Network.Contains(l) {
		return errors.New("its subnet is outside of the configured Network")
	}
	for _, s := range l.Subnets {
		for _, own := range in.Underlay.Addrs {
			if s.IsValid() && own.IsValid() && s.Contains(own) {
				return fmt.Errorf("its subnet covers our underlay address %s", own)
			}
		}
	}
	return nil
}

// follows reports whether a lease is of our Type of backend, or of another one
// that its node is about to leave: a tulled follows the Network by itself, and
// until it has, it is reached by plain routes as well.
func (in Input) follows(l subnet.Lease) bool {
	if l.Type == in.Network.Backend.Type {
		return true
	}
	return l.Node != "" && (l.Type == subnet.VXLAN || l.Type == subnet.HostGW)
}

// CheckAddr returns an error if an address can't be that of a peer on the
// underlay.
func (in Input) CheckAddr(a netip.Addr) error {
	switch {
	case !subnet.IsHost(a):
		return fmt.Errorf("its public address %s is not a host's", a)
	case a == in.Underlay.Addrs[subnet.FamilyOf(a)], a == in.Self.Addrs[subnet.FamilyOf(a)]:
		return fmt.Errorf("its public address %s is our own", a)
	case in.Network.Has(a):
		return fmt.Errorf("its public address %s is one of the pods' network", a)
	}
	return nil
}

// Neighbour is the address of a peer on our link, for plain routes to its subnet
// of a family. The error says why there is none.
func (in Input) Neighbour(l subnet.Lease, f subnet.Family) (netip.Addr, error) {
	a, u := l.Addrs[f], in.Underlay
	switch {
	case !u.Addrs[f].IsValid():
		return a, fmt.Errorf("our device %s has no %s address, which plain routes to its subnet %s need", u.Dev, f, l.Subnets[f])
	case !a.IsValid():
		return a, fmt.Errorf("it has no %s address, which plain routes to its subnet %s need", f, l.Subnets[f])
	}
	if err := in.CheckAddr(a); err != nil {
		return a, err
	}
	if !u.OnLink(a) {
		return a, fmt.Errorf("its public address %s is not on the link of %s", a, u)
	}
	return a, nil
}

// RouteTo is the rows of a route to dst by way of nh: through a nexthop object
// if there can be one. Routes that name their gateway themselves cost the kernel
// time that grows with the square of their number, because each new one is
// compared with all.
//
// The object's id follows from dst, so that a peer that is to be reached in another
// way from now on keeps its route: the kernel changes the object in one step, and
// no packet is without a way meanwhile.
func (in Input) RouteTo(dst netip.Prefix, nh Nexthop) []Entry {
	if !in.Nexthops {
		return []Entry{Route{Dst: dst, Via: nh.Via, Dev: nh.Dev, Onlink: nh.Onlink}}
	}
	nh.ID = nexthopID(subnet.Gateway(dst))
	return []Entry{nh, Route{Dst: dst, Nexthop: nh.ID}}
}

// DirectSysctls let pods' packets in that come as they are.
func (in Input) DirectSysctls() []Entry {
	var rows []Entry
	for f, own := range in.Self.Subnets {
		if own.IsValid() {
			rows = append(rows, Forwarding(subnet.Family(f), in.Underlay.Dev))
		}
	}
	return rows
}
