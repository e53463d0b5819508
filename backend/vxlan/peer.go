package vxlan

import (
	"fmt"
	"net/netip"

	"tulle/backend"
	"tulle/subnet"
)

// peer is a lease that makes sense.
type peer struct {
	addr netip.Addr     // underlay address of its VTEP
	mac  [2]backend.MAC // of its VXLAN device, by Family of the subnet; zero: it has none yet
}

func (p peer) vtep(f int) bool { return p.mac[f] != backend.MAC{} }

// peer reads a lease and checks it, looked at alone.
func (v VXLAN) peer(in backend.Input, l subnet.Lease) (peer, error) {
	family := subnet.FamilyOf(in.Underlay.Addr())
	p := peer{addr: l.Addrs[family]}
	if err := in.CheckPeer(l); err != nil {
		return p, err
	}
	if !p.addr.IsValid() {
		return p, fmt.Errorf("it has no %s address, which our underlay needs", family)
	}
	if err := in.CheckAddr(p.addr); err != nil {
		return p, err
	}
	if l.Type != subnet.VXLAN {
		return p, nil
	}
	for f, s := range l.Subnets {
		if !s.IsValid() {
			continue
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
