// Package vxlan turns leases into the kernel state that carries pod packets
// between nodes in VXLAN (RFC 7348). It is pure.
//
// For each remote node there is one FDB row (the VTEP's MAC address to its
// underlay address), one permanent neighbour (the first address of the remote
// subnet to that MAC address), and one route to the remote subnet by way of
// that neighbour, through a nexthop object where the kernel has them. The
// device learns nothing and asks nobody: no multicast, no L2 or L3 misses.
package vxlan

import (
	"errors"
	"fmt"
	"net/netip"

	"tulle/backend"
	"tulle/subnet"
)

// VXLAN is the backend for one Network. It is a value that never changes and
// may be used by many at once.
type VXLAN struct {
	network subnet.Network
}

var _ backend.Backend = VXLAN{}

// New returns the backend for a Network whose Backend.Type is subnet.VXLAN.
func New(n subnet.Network) VXLAN { return VXLAN{network: n} }

// Device is the name of the VXLAN device.
func (v VXLAN) Device() string { return fmt.Sprintf("tulle.%d", v.network.Backend.VNI) }

// What encapsulation adds to a pod's packet: the inner Ethernet header, and the
// VXLAN, UDP and IP headers outside.
const overhead = 14 + 8 + 8

// MTU implements backend.Backend.
func (v VXLAN) MTU(u backend.Underlay) int {
	mtu := u.MTU
	if v.network.Backend.MTU != 0 {
		mtu = v.network.Backend.MTU
	}
	if u.Addr().Is4() {
		return mtu - overhead - 20
	}
	return mtu - overhead - 40
}

// Data implements backend.Backend.
func (v VXLAN) Data(node string) [2]string {
	var data [2]string
	for f, p := range v.network.Pools {
		if p.IsValid() {
			data[f] = vtep{VNI: v.network.Backend.VNI, MAC: v.mac(node)}.encode()
		}
	}
	return data
}

// Desired implements backend.Backend.
func (v VXLAN) Desired(in backend.Input) (backend.State, error) {
	dev := v.Device()
	b := v.network.Backend
	s := backend.NewState(backend.Link{
		Name: dev, Owner: in.Owner, Up: true, MAC: v.mac(in.Self.Node), MTU: v.MTU(in.Underlay),
		VNI: b.VNI, Port: b.Port, Local: in.Underlay.Addr(), Underlay: in.Underlay.Dev,
		Learning: b.Learning, GBP: b.GBP,
	})
	for _, own := range in.Self.Subnets {
		if own.IsValid() {
			gw := subnet.Gateway(own)
			s.Add(backend.Addr{Dev: dev, Prefix: netip.PrefixFrom(gw, gw.BitLen())})
		}
	}
	peers, faults := v.peers(in)
	for _, p := range peers {
		v.reach(s, in, p)
	}
	return s, errors.Join(faults...)
}

// reach adds the rows that lead to one peer.
func (v VXLAN) reach(s backend.State, in backend.Input, p peer) {
	for f, dst := range p.lease.Subnets {
		if !dst.IsValid() {
			continue
		}
		if v.network.Backend.DirectRouting && p.addr.Is4() == (subnet.Family(f) == subnet.IPv4) && in.Underlay.OnLink(p.addr) {
			route(s, in, dst, backend.Nexthop{Via: p.addr, Dev: in.Underlay.Dev})
			continue
		}
		dev, gw := v.Device(), subnet.Gateway(dst)
		s.Add(
			backend.FDB{Dev: dev, MAC: p.mac[f], Dst: p.addr},
			backend.Neigh{Dev: dev, IP: gw, MAC: p.mac[f]},
		)
		route(s, in, dst, backend.Nexthop{Via: gw, Dev: dev, Onlink: true})
	}
}

// route leads to dst by way of nh: through a nexthop object if there can be
// one. Routes that name their gateway themselves cost the kernel time that grows
// with the square of their number, because each new one is compared with all.
func route(s backend.State, in backend.Input, dst netip.Prefix, nh backend.Nexthop) {
	nh.ID = nexthopID(nh.Via)
	taken := s[nh.Key()]
	if !in.Nexthops || taken != nil && taken != nh {
		s.Add(backend.Route{Dst: dst, Via: nh.Via, Dev: nh.Dev, Onlink: nh.Onlink})
		return
	}
	s.Add(nh, backend.Route{Dst: dst, Nexthop: nh.ID})
}
