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
	addr netip.Addr     // underlay address of its VTEP
	mac  [2]backend.MAC // of its VXLAN device, by Family of the subnet
}

// peer reads a lease and checks it, looked at alone.
func (v VXLAN) peer(in backend.Input, l subnet.Lease) (peer, error) {
	p := peer{addr: l.Addrs[subnet.FamilyOf(in.Underlay.Addr())]}
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
		if t.MAC == v.mac(in.Self.Node) {
			return p, fmt.Errorf("its VtepMAC %s is our own", t.MAC)
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
	case v.network.Has(a):
		return fmt.Errorf("its public address %s is one of the pods' network", a)
	}
	return nil
}
