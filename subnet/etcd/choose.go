package etcd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"tulle/subnet"
)

// Claim is what a node wants a lease for.
type Claim struct {
	Lease  subnet.Lease    // all but the Subnets
	Prefer [2]netip.Prefix // what it had before, if it knows
	Only   bool            // nothing but Prefer will do, be it one of the network's or not
	// Answers reports whether another host answers at an address; nil if that
	// can't be said.
	Answers func(netip.Addr) bool
}

// ErrTaken says that another node has what this node claims.
var ErrTaken = errors.New("taken by another node")

// ErrLost is the ErrTaken of a subnet that this node had.
var ErrLost = fmt.Errorf("%w", ErrTaken)

// choice is the lease that a node should hold, and the record that it replaces.
type choice struct {
	lease subnet.Lease
	old   subnet.Record // its own, or zero
}

// choose finds a node's lease: its own from before, by name and else by public
// address; what it remembers to have had; or a free subnet.
func choose(v *view, c Claim) (choice, error) {
	lease := c.Lease
	if c.Only {
		lease.Subnets = c.Prefer
	}
	old, err := own(v, lease)
	if err != nil {
		return choice{}, err
	}
	if c.Only && old.Subnets == c.Prefer {
		return choice{lease, old}, nil
	}
	if old.Created != 0 && old.Node == lease.Node && !old.Lease.SharesAddr(lease) {
		// The node has moved, or it is another one with the same name.
		for _, a := range old.Addrs {
			if a.IsValid() && c.Answers != nil && c.Answers(a) {
				return choice{}, fmt.Errorf("the name %s is that of a node at %s, which answers there (%w); give each node a name of its own with --node-name, "+
					"or, if that host is no node of this name any more, delete the lease %s", lease.Node, a, ErrTaken, old.Lease)
			}
		}
	}
	if c.Only { // whatever the network is by now: pods have its addresses
		if other, taken := overlapping(others(v, old), lease); taken {
			return choice{}, fmt.Errorf("our subnet is lost to %s: %w", other, ErrLost)
		}
		return choice{lease, old}, nil
	}
	if old.Created != 0 && fits(v.network, old.Subnets) {
		lease.Subnets = old.Subnets
		return choice{lease, old}, nil
	}
	lease.Subnets = c.Prefer
	if _, taken := overlapping(v.taken(), lease); !taken && fits(v.network, c.Prefer) {
		return choice{lease, old}, nil
	}
	if lease.Subnets, err = subnet.Pick(v.network, lease.Node, kept(v, old, c.Prefer), v.taken()); err != nil {
		return choice{}, err
	}
	return choice{lease, old}, nil
}

// others is all that is taken but for a node's own.
func others(v *view, own subnet.Record) []subnet.Lease {
	return slices.DeleteFunc(v.taken(), func(l subnet.Lease) bool { return own.Created != 0 && l.Subnets == own.Subnets })
}

// kept is what a node keeps when the network has not the families any more that
// the node has subnets of: what fits of its old lease, and else of what it
// remembers, if nobody else has that.
func kept(v *view, old subnet.Record, prefer [2]netip.Prefix) [2]netip.Prefix {
	others := others(v, old)
	var keep [2]netip.Prefix
	for f := range keep {
		for _, s := range [][2]netip.Prefix{old.Subnets, prefer} {
			var one subnet.Lease
			one.Subnets[f] = s[f]
			if !v.network.Contains(one) {
				continue
			}
			if _, taken := overlapping(others, one); !taken {
				keep[f] = s[f]
				break
			}
		}
	}
	return keep
}

func overlapping(leases []subnet.Lease, l subnet.Lease) (subnet.Lease, bool) {
	for _, other := range leases {
		if other.Overlaps(l) {
			return other, true
		}
	}
	return subnet.Lease{}, false
}

// own finds the record that is this node's. It is an error if another node has
// one of its addresses.
func own(v *view, l subnet.Lease) (subnet.Record, error) {
	other, ok := v.find(func(r subnet.Lease) bool { return r.Node != "" && r.Node != l.Node && r.SharesAddr(l) })
	if ok {
		return subnet.Record{}, fmt.Errorf("our public address %s is that of the lease %s (%w); choose another address with --public-ip or --iface, "+
			"or, if this node was called %s before, give --node-name=%s once or delete that lease", l.AddrText(), other.Lease, ErrTaken, other.Node, other.Node)
	}
	if r, ok := v.leases.Get(l.Key()); ok && r.Node == l.Node { // of several, the one that it holds
		return r, nil
	}
	if r, ok := v.find(func(r subnet.Lease) bool { return r.Node == l.Node }); ok {
		return r, nil
	}
	r, _ := v.find(func(r subnet.Lease) bool { return r.Node == "" && r.SharesAddr(l) })
	return r, nil
}

// fits reports whether subnets are what the Network hands out: in the same
// families and inside of it.
func fits(n subnet.Network, subnets [2]netip.Prefix) bool {
	for f, p := range n.Pools {
		if p.IsValid() != subnets[f].IsValid() {
			return false
		}
	}
	return n.Contains(subnet.Lease{Subnets: subnets})
}
