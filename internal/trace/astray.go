package trace

import (
	"fmt"
	"net/netip"
	"slices"
)

// noRoute says what to do where there is none.
func (t *tracer) noRoute() string {
	if t.ofPods(t.packet.Dst) {
		return "tullectl leases tells whether a node holds a subnet with it; tullectl peers, whether this node knows"
	}
	return "ip route show table all"
}

func (t *tracer) ofPods(a netip.Addr) bool {
	return slices.ContainsFunc(t.Networks(), func(p netip.Prefix) bool { return p.Contains(a) })
}

func (t *tracer) peerOf(a netip.Addr) (Peer, bool) {
	for _, p := range t.Peers() {
		if slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return s.Contains(a) }) {
			return p, true
		}
	}
	return Peer{}, false
}

func (t *tracer) peerAt(a netip.Addr) (Peer, bool) {
	for _, p := range t.Peers() {
		if slices.Contains(p.Addrs, a) {
			return p, true
		}
	}
	return Peer{}, false
}

// astray ends the way of a packet for a pod that a route leads out of the network.
func (t *tracer) astray(r Route) bool {
	if !t.ofPods(t.packet.Dst) || !t.leads(r) {
		return false
	}
	peer, known := t.peerOf(t.packet.Dst)
	switch {
	case r.Dst.Bits() == 0 && r.Table != "main" && r.Table != "default":
		t.lost(fmt.Sprintf("a policy rule leads %s to table %s, where the pods' network is not: %s", t.packet.Dst, r.Table, r), t.before())
	case !known && r.Dst.Bits() == 0:
		t.lost(fmt.Sprintf("no node holds a subnet with %s, so it would leave by the default route", t.packet.Dst), "tullectl leases")
	case known && r.Dst.Bits() == 0:
		t.lost(fmt.Sprintf("the route to %s of %s is missing, so it would leave by the default route", peer.Subnets[0], peer.Name), "tullectl peers; systemctl restart tulled")
	case known:
		t.lost(fmt.Sprintf("another route leads %s away from %s: %s", t.packet.Dst, peer.Name, r), fmt.Sprintf("ip route del %s dev %s table %s", r.Dst, r.Dev, r.Table))
	default:
		return false
	}
	return true
}

// before is the command that has the main table asked for pods before any other.
func (t *tracer) before() string {
	for _, n := range t.Networks() {
		if n.Contains(t.packet.Dst) && n.Addr().Is6() {
			return fmt.Sprintf("ip -6 rule add to %s lookup main pref 1; ip -6 rule show tells the others", n)
		} else if n.Contains(t.packet.Dst) {
			return fmt.Sprintf("ip rule add to %s lookup main pref 1; ip rule show tells the others", n)
		}
	}
	return "ip rule show"
}

// leads reports whether a route leads to a device that is neither the overlay's
// nor a bridge's, nor to a peer itself.
func (t *tracer) leads(r Route) bool {
	link, _ := t.Link(r.Dev)
	if link.Kind == "vxlan" || link.Kind == "bridge" {
		return false
	}
	_, direct := t.peerAt(r.Via)
	return !direct
}
