package subnet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// ErrFull says that a pool has no free subnet left.
var ErrFull = errors.New("no free subnet")

// Pick chooses a subnet in each family of the Network that overlaps none of the
// leases; in a family where keep has one, that is it. The search starts at a place derived from the node's name, so that
// nodes that start together seldom want the same subnet and a node that lost
// everything is likely to get its old one back.
func Pick(n Network, node string, keep [2]netip.Prefix, leases []Lease) ([2]netip.Prefix, error) {
	var picked [2]netip.Prefix
	for f, p := range n.Pools {
		if !p.IsValid() {
			continue
		}
		if keep[f].IsValid() {
			picked[f] = keep[f]
			continue
		}
		taken := map[netip.Prefix]bool{}
		var odd []netip.Prefix // leased with another length
		for _, l := range leases {
			switch s := l.Subnets[f]; {
			case !s.IsValid():
			case s.Bits() == p.Len:
				taken[s] = true
			default:
				odd = append(odd, s)
			}
		}
		s, ok := p.free(node, func(s netip.Prefix) bool {
			if taken[s] {
				return false
			}
			for _, o := range odd {
				if o.Overlaps(s) {
					return false
				}
			}
			return true
		})
		if !ok {
			return picked, fmt.Errorf("%w in %s: all %d subnets of length %d from %s to %s are leased; "+
				"release leases of nodes that are gone or configure a larger %s",
				ErrFull, p.Prefix, p.Size(), p.Len, p.Min, p.Max, poolNames[f].prefix)
		}
		picked[f] = s
	}
	return picked, nil
}

func (p Pool) free(node string, ok func(netip.Prefix) bool) (netip.Prefix, bool) {
	sum := sha256.Sum256([]byte(node)) // names differ in a digit; their sums in all
	size := p.Size()
	start := binary.BigEndian.Uint64(sum[:]) % size
	for i := range size {
		at := start + i
		if at >= size || at < start { // wrapped around
			at -= size
		}
		if s := p.At(at); ok(s) {
			return s, true
		}
	}
	return netip.Prefix{}, false
}
