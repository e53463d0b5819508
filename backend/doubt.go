package backend

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"tulle/subnet"
)

// Doubts says what in the leases speaks against the choice of underlays, by the
// key of a lease or by the name of a device of ours:
//
//   - a peer is at an address that this host has too, as all virtual machines
//     behind a NAT of their own are at 10.0.2.15: nothing reaches it from here;
//   - a peer is on the link of a device of ours that is not the underlay, while
//     the underlay does not lead there.
func Doubts(u Underlay, candidates []Candidate, self subnet.Lease, peers iter.Seq[subnet.Record]) map[string]error {
	doubts := map[string]error{}
	for p := range peers {
		if p.Lease == self {
			continue
		}
		for _, a := range p.Addrs {
			for _, c := range candidates {
				switch _, ours := c.addr(a.String()); {
				case !a.IsValid() || c.Dev == u.Dev && slices.Contains(u.Addrs[:], a): // the plan has a word for it
				case ours:
					doubts[p.Key()] = fmt.Errorf("node %s announces %s, which %s of this host has too, so nothing reaches it from here; choose the device there with --iface", p.Node, a, c.Dev)
				case c.Dev != u.Dev && c.onLink(a) && !u.OnLink(a) && doubts[c.Dev] == nil:
					doubts[c.Dev] = fmt.Errorf("node %s is at %s, on the link of %s, and this node announces %s of %s; if the others can't reach that, give --iface=%s", p.Node, a, c.Dev, u.Addr(), u.Dev, c.Dev)
				}
			}
		}
	}
	return doubts
}

func (c Candidate) onLink(a netip.Addr) bool {
	return slices.ContainsFunc(c.Addrs, func(p netip.Prefix) bool { return p.Contains(a) })
}
