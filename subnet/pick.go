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
		taken := map[netip.Prefix]bool{} // of this pool's length
		var larger []Lease
		for _, l := range leases {
			switch s := l.Subnets[f]; {
			case !s.IsValid():
			case s.Bits() >= p.Len:
				taken[netip.PrefixFrom(s.Addr(), p.Len).Masked()] = true
			default:
				larger = append(larger, l)
			}
		}
		s, ok := p.free(node, func(s netip.Prefix) netip.Prefix {
			if taken[s] {
				return s
			}
			for _, l := range larger {
				if l.Subnets[f].Overlaps(s) {
					return l.Subnets[f]
				}
			}
			return netip.Prefix{}
		})
		if !ok {
			odd := ""
			if len(larger) > 0 {
				odd = fmt.Sprintf(", some by the larger lease %s", larger[0])
			}
			return picked, fmt.Errorf("%w in %s: all %d subnets of length %d from %s to %s are leased%s; "+
				"release leases of nodes that are gone or configure a larger %s",
				ErrFull, p.Prefix, p.Size(), p.Len, p.Min, p.Max, odd, poolNames[f].prefix)
		}
		picked[f] = s
	}
	return picked, nil
}

// free finds a subnet that nothing is in the way of. What is in the way of one may
// be in that of very many more, which are not looked at one by one.
func (p Pool) free(node string, inTheWay func(netip.Prefix) netip.Prefix) (netip.Prefix, bool) {
	sum := sha256.Sum256([]byte(node)) // names differ in a digit; their sums in all
	size := p.Size()
	start := binary.BigEndian.Uint64(sum[:]) % size
	for i := uint64(0); i < size; {
		at := start + i
		if at >= size || at < start { // wrapped around
			at -= size
		}
		s := p.At(at)
		other := inTheWay(s)
		if !other.IsValid() {
			return s, true
		}
		covered := Pool{Prefix: p.Prefix, Len: p.Len, Min: s, Max: last(other, p.Len)}.Size()
		if covered = min(covered, size-at); covered >= size-i {
			break
		}
		i += covered
	}
	return netip.Prefix{}, false
}
