// Package trace follows a packet to its end on one host: which bridge, route,
// nexthop, neighbour and FDB row the kernel would use, and which rules of
// netfilter match. It is pure; what the kernel holds comes from a World.
package trace

import (
	"fmt"
	"net/netip"

	"tulle/internal/ruleset"
)

// World is what a trace asks of a host. Package look reads that of the kernel.
type World interface {
	// Route is the route that the kernel chooses. The error is why there is none.
	Route(Question) (Route, error)
	Link(name string) (Link, bool)
	// Owner is the device of this host with the address.
	Owner(netip.Addr) (dev string, ok bool)
	Neigh(dev string, a netip.Addr) (Neigh, bool)
	// FDB finds what lies behind a MAC address: an address at a VXLAN device, and
	// a port at a bridge.
	FDB(dev, mac string) (FDB, bool)
	Sysctl(name string) (value string, ok bool)
	Rules() ruleset.Ruleset
	// Pod is the one of this host that has the address, as the CNI plugin keeps it.
	Pod(netip.Addr) (Pod, bool)
	// AnyPod is some pod of this host with an address like that one.
	AnyPod(like netip.Addr) (Pod, bool)
	// Networks are the prefixes of all pods, as far as they are known.
	Networks() []netip.Prefix
	// Peers are the other nodes, as far as they are known.
	Peers() []Peer
}

// Question is which way the kernel sends a packet.
type Question struct {
	Src, Dst netip.Addr // Src may be zero where In is empty
	In       string     // device that it came by; empty: this host sends it
	Mark     uint32
}

// Route is a row of a routing table, and the nexthop that it leads to.
type Route struct {
	Dst       netip.Prefix
	Type      string // unicast, local, blackhole and so on, as ip-route(8) has it
	Table     string
	Protocol  string
	Dev       string
	Via       netip.Addr
	Src       netip.Addr
	NexthopID uint32
	MTU       int // of the route; 0: that of its device

	// Rule is the policy rule that refuses the packet before any table is asked,
	// and Pref its priority.
	Rule string
	Pref int
}

func (r Route) String() string {
	if r.Rule != "" {
		return "policy rule " + r.Rule
	}
	text := r.Dst.String()
	if r.Dst.Bits() == 0 {
		text = "default"
	}
	if r.Type != "" && r.Type != "unicast" {
		text = r.Type + " " + text
	}
	if r.NexthopID != 0 {
		text += fmt.Sprintf(" nhid %d", r.NexthopID)
	}
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.Dev != "" {
		text += " dev " + r.Dev
	}
	return text + " table " + r.Table + " proto " + r.Protocol
}

// without is the command that takes away what refuses packets.
func (r Route) without() string {
	switch {
	case r.Rule != "" && r.Dst.Addr().Is6():
		return fmt.Sprintf("ip -6 rule del pref %d", r.Pref)
	case r.Rule != "":
		return fmt.Sprintf("ip rule del pref %d", r.Pref)
	}
	return fmt.Sprintf("ip route del %s %s table %s", r.Type, r.Dst, r.Table)
}

// Link is a device.
type Link struct {
	Name    string
	Kind    string // bridge, vxlan, veth; empty for a real one
	Up      bool   // by the operator's will
	Carrier bool
	MTU     int
	MAC     string
	Master  string
	Alias   string
	Addrs   []netip.Prefix

	VNI, Port int        // of a VXLAN device
	Local     netip.Addr // of a VXLAN device
	State     string     // of a bridge's port: forwarding and so on
	Hairpin   bool       // of a bridge's port
	Calls     [2]bool    // of a bridge, by family: netfilter sees its packets, whatever the host's setting says

	Twice []netip.Addr // of Addrs, which another host has too, as the kernel found (IPv6)
}

// Neigh is a row of a neighbour table.
type Neigh struct {
	MAC   string
	State string // permanent, reachable, failed and so on, as ip-neighbour(8) has it
}

// FDB is a row of a forwarding database.
type FDB struct {
	Dst  netip.Addr // of a VXLAN device
	Port string     // of a bridge
}

// Pod is a pod of this host.
type Pod struct {
	Addr      netip.Addr
	Veth      string // the host's end
	Name      string // namespace/name, or what else the plugin was told
	Container string
}

func (p Pod) String() string {
	text := "pod " + p.Name
	if p.Name == "" {
		text = "a pod"
	}
	return text + " at " + p.Addr.String()
}

// Peer is another node.
type Peer struct {
	Name    string
	Addrs   []netip.Addr
	Subnets []netip.Prefix
}
