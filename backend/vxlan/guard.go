package vxlan

import (
	"tulle/backend"
	"tulle/subnet"
)

// guard drops what comes to the device and not from a peer.
func (v VXLAN) guard(in backend.Input) backend.Guard {
	g := backend.Guard{
		Dev: v.Device(), Mode: in.Guard, VTEPs: subnet.FamilyOf(in.Underlay.Addr()),
		Port: v.network.Backend.Port, VNI: v.network.Backend.VNI,
	}
	for f, p := range v.network.Pools {
		if p.IsValid() {
			g.Lens[f] = p.Len
		}
	}
	return g
}

// source is what a peer may send. A peer with plain routes to us has one as well:
// it may see the underlay otherwise than we do, and it need not have followed a
// change of the configuration yet.
func (v VXLAN) source(p peer, l subnet.Lease) backend.Source {
	s := backend.Source{Dev: v.Device(), VTEP: p.addr, Subnets: l.Subnets}
	for f, prefix := range l.Subnets {
		if prefix.IsValid() && prefix.Bits() != v.network.Pools[f].Len {
			s.Odd = true
		}
	}
	return s
}
