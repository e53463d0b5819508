package vxlan

import (
	"errors"
	"fmt"
	"net/netip"

	"tulle/backend"
	"tulle/subnet"
)

// peer is a lease that makes sense.
type peer struct {
	lease subnet.Lease
	addr  netip.Addr     // underlay address of its VTEP
	mac   [2]backend.MAC // of its VXLAN device, by Family of the subnet
}

// peers tells the leases that make sense from those that do not. Where two
// contradict each other, the earlier one counts: whoever comes later must not
// be able to take a subnet, an address or a MAC away.
func (v VXLAN) peers(in backend.Input) ([]peer, []error) {
	good := make([]peer, 0, len(in.Peers))
	seen := newSeen(v, in)
	var faults []error
	for _, l := range in.Peers {
		p, err := v.peer(in, l)
		if err == nil {
			err = seen.add(p)
		}
		if err != nil {
			faults = append(faults, &backend.PeerError{Lease: l, Err: err})
			continue
		}
		good = append(good, p)
	}
	return good, faults
}

// peer checks a lease on its own.
func (v VXLAN) peer(in backend.Input, l subnet.Lease) (peer, error) {
	p := peer{lease: l, addr: l.Addrs[subnet.FamilyOf(in.Underlay.Addr())]}
	if l.Type != subnet.VXLAN {
		return p, fmt.Errorf("its backend is %q, ours is %q", l.Type, subnet.VXLAN)
	}
	if !v.network.Contains(l) {
		return p, errors.New("its subnet is outside of the configured Network")
	}
	if err := v.checkAddr(in, p.addr); err != nil {
		return p, err
	}
	for f, s := range l.Subnets {
		if !s.IsValid() {
			continue
		}
		if s.Contains(in.Underlay.Addr()) {
			return p, fmt.Errorf("its subnet covers our underlay address %s", in.Underlay.Addr())
		}
		t, err := parseVTEP(l.Data[f])
		if err != nil {
			return p, err
		}
		if t.VNI != v.network.Backend.VNI {
			return p, fmt.Errorf("its VNI is %d, ours is %d", t.VNI, v.network.Backend.VNI)
		}
		p.mac[f] = t.MAC
	}
	return p, nil
}

func (v VXLAN) checkAddr(in backend.Input, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("it has no %s address, which our underlay needs", subnet.FamilyOf(in.Underlay.Addr()))
	case a.IsLoopback(), a.IsMulticast(), a.IsUnspecified(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("its public address %s is not a host's", a)
	case a == in.Underlay.Addr(), a == in.Self.Addrs[subnet.FamilyOf(a)]:
		return fmt.Errorf("its public address %s is our own", a)
	case v.network.Pools[subnet.FamilyOf(a)].IsValid() && v.network.Pools[subnet.FamilyOf(a)].Prefix.Contains(a):
		return fmt.Errorf("its public address %s is one of the pods' network", a)
	}
	return nil
}

// seen is what is taken by us and by the peers so far.
type seen struct {
	subnets map[netip.Prefix]subnet.Lease
	lengths [129]bool // prefix lengths in subnets
	addrs   map[netip.Addr]subnet.Lease
	macs    map[backend.MAC]subnet.Lease
}

func newSeen(v VXLAN, in backend.Input) *seen {
	s := &seen{
		subnets: make(map[netip.Prefix]subnet.Lease, len(in.Peers)+1),
		addrs:   make(map[netip.Addr]subnet.Lease, len(in.Peers)),
		macs:    make(map[backend.MAC]subnet.Lease, len(in.Peers)+1),
	}
	for _, own := range in.Self.Subnets {
		s.take(own, in.Self)
	}
	s.macs[v.mac(in.Self.Node)] = in.Self
	return s
}

func (s *seen) add(p peer) error {
	for _, sub := range p.lease.Subnets {
		if other, ok := s.overlap(sub); ok {
			return fmt.Errorf("its subnet overlaps %s", other)
		}
	}
	if other, ok := s.addrs[p.addr]; ok {
		return fmt.Errorf("its public address %s is that of %s", p.addr, other)
	}
	for f := range p.mac {
		if other, ok := s.macs[p.mac[f]]; ok {
			return fmt.Errorf("its VtepMAC %s is that of %s", p.mac[f], other)
		}
	}
	for f, sub := range p.lease.Subnets {
		if sub.IsValid() {
			s.take(sub, p.lease)
			s.macs[p.mac[f]] = p.lease
		}
	}
	s.addrs[p.addr] = p.lease
	return nil
}

func (s *seen) take(sub netip.Prefix, l subnet.Lease) {
	if sub.IsValid() {
		s.subnets[sub] = l
		s.lengths[sub.Bits()] = true
	}
}

// overlap finds a taken subnet that contains sub or is contained in it. Subnets
// have few different lengths, nearly always one, so this is a look-up or two.
func (s *seen) overlap(sub netip.Prefix) (subnet.Lease, bool) {
	if !sub.IsValid() {
		return subnet.Lease{}, false
	}
	for n, used := range s.lengths {
		if !used || n > sub.Addr().BitLen() {
			continue
		}
		if n > sub.Bits() {
			for other, l := range s.subnets {
				if other.Overlaps(sub) {
					return l, true
				}
			}
			return subnet.Lease{}, false
		}
		if l, ok := s.subnets[netip.PrefixFrom(sub.Addr(), n).Masked()]; ok {
			return l, true
		}
	}
	return subnet.Lease{}, false
}
