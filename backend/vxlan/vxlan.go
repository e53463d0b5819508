// Package vxlan turns leases into the kernel state that carries pod packets
// between nodes in VXLAN (RFC 7348). It is pure.
//
// For each remote node there is one FDB row (the VTEP's MAC address to its
// underlay address), one permanent neighbour (the first address of the remote
// subnet, or for IPv6 the link-local one, to that MAC address), and one route to the remote subnet by way of
// that neighbour, through a nexthop object where the kernel has them. The
// device learns nothing and asks nobody: no multicast, no L2 or L3 misses.
//
// With DirectRouting, a node on our link has a route by way of its underlay
// address instead, and no more of these rows.
package vxlan

import (
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

// Device implements backend.Backend.
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

// deviceSettings are those that the device needs for a family.
func deviceSettings(f subnet.Family, dev string) []backend.Entry {
	forwarding := backend.Forwarding(f, dev)
	forwarding.Ours = true
	if f == subnet.IPv4 {
		return []backend.Entry{forwarding}
	}
	six := func(name, value string) backend.Sysctl {
		return backend.Sysctl{Name: "net/ipv6/conf/" + dev + "/" + name, Value: value, Optional: true, Ours: true}
	}
	return []backend.Entry{
		six("disable_ipv6", "0"), // as new devices are where the host has it off for all
		forwarding,
		six("accept_ra", "0"),     // no peer is this host's router
		six("addr_gen_mode", "1"), // no link-local address: nobody on the link speaks but through rows of ours
	}
}

// Node implements backend.Backend.
func (v VXLAN) Node(in backend.Input) backend.State {
	dev := v.Device()
	b := v.network.Backend
	s := backend.NewState(backend.Link{
		Name: dev, Owner: in.Owner, Up: true, MAC: v.mac(in.Self.Node), MTU: v.MTU(in.Underlay),
		VNI: b.VNI, Port: b.Port, Local: in.Underlay.Addr(), Underlay: in.Underlay.Dev,
		Learning: b.Learning, GBP: b.GBP,
	})
	for f, own := range in.Self.Subnets {
		if own.IsValid() {
			s.Add(deviceSettings(subnet.Family(f), dev)...)
			gw := subnet.Gateway(own)
			s.Add(backend.Addr{Dev: dev, Prefix: netip.PrefixFrom(gw, gw.BitLen())})
		}
	}
	if b.DirectRouting {
		s.Add(in.DirectSysctls()...)
		// A peer that sees the link otherwise than we do, or has not followed a
		// change yet, sends in VXLAN while our packets to it go the plain way.
		s.Add(backend.Sysctl{Name: "net/ipv4/conf/" + dev + "/rp_filter", Value: "2", Optional: true})
	}
	if in.Guard != backend.GuardOff {
		s.Add(v.guard(in))
	}
	return s
}

// Peer implements backend.Backend.
func (v VXLAN) Peer(in backend.Input, l subnet.Lease) ([]backend.Entry, error) {
	p, err := v.peer(in, l)
	if err != nil {
		return nil, err
	}
	rows := make([]backend.Entry, 0, 5)
	if in.Guard != backend.GuardOff {
		rows = append(rows, v.source(p, l))
	}
	for f, dst := range l.Subnets {
		if !dst.IsValid() {
			continue
		}
		via, err := in.Neighbour(l, subnet.Family(f))
		switch {
		case err == nil && (v.network.Backend.DirectRouting || !p.vtep()):
			rows = append(rows, in.RouteTo(dst, backend.Nexthop{Via: via, Dev: in.Underlay.Dev})...)
			continue
		case !p.vtep():
			return nil, fmt.Errorf("its backend is %q still, and %w", l.Type, err)
		}
		dev, gw := v.Device(), p.gateway(dst)
		rows = append(rows, backend.FDB{Dev: dev, MAC: p.mac, Dst: p.addr}, backend.Neigh{Dev: dev, IP: gw, MAC: p.mac})
		rows = append(rows, in.RouteTo(dst, backend.Nexthop{Via: gw, Dev: dev, Onlink: true})...)
	}
	return rows, nil
}
