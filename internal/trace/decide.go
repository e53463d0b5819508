package trace

import (
	"cmp"
	"fmt"
	"net/netip"

	"tulle/internal/ruleset"
)

// decide is what the host does with the packet.
func (t *tracer) decide() {
	hook := ruleset.Prerouting
	if !t.forward {
		hook = ruleset.Output
	}
	if t.translate(hook) || t.switched() {
		return
	}
	if t.refused() {
		return
	}
	route, err := t.Route(Question{Src: t.packet.Src, Dst: t.packet.Dst, In: t.packet.In, Mark: t.packet.Mark})
	if err != nil {
		t.hop(Hop{Step: "route", Text: err.Error()})
		t.lost(fmt.Sprintf("this host has no route to %s: %v", t.packet.Dst, err), t.noRoute())
		return
	}
	link, _ := t.Link(route.Dev)
	t.hop(Hop{Step: "route", Text: route.String(), Device: route.Dev, MTU: cmp.Or(route.MTU, link.MTU)})
	if route.Type == "local" || route.Type == "anycast" {
		if t.taken() {
			return
		}
		t.packet.Out = ""
		if t.rules(ruleset.Input, t.packet) {
			t.trace.End = End{Where: AtHost, Text: fmt.Sprintf("at this host, which has %s", t.packet.Dst)}
		}
		return
	}
	if route.Type == "broadcast" {
		t.lost(fmt.Sprintf("%s is for all hosts on the link of %s, where nothing is forwarded to", t.packet.Dst, route.Dev), "choose the address of one host")
		return
	}
	if route.Type != "unicast" {
		t.refusedBy(t.packet.Dst, route)
		return
	}
	if t.astray(route) {
		return
	}
	t.packet.Out = route.Dev
	if t.forward {
		if !t.rules(ruleset.Forward, t.packet) {
			return
		}
	}
	if !t.rules(ruleset.Postrouting, t.packet) {
		return
	}
	t.leave(route, link)
}

// refusedBy ends the way by a route that lets nothing pass to an address.
func (t *tracer) refusedBy(a netip.Addr, r Route) {
	what := "a route"
	if r.Rule != "" {
		what = "a rule"
	}
	t.lost(fmt.Sprintf("%s refuses %s: %s", what, a, r), r.without())
}

// taken ends the way of a packet for a pod whose address this host has itself.
func (t *tracer) taken() bool {
	a := t.packet.Dst
	whose := "a pod"
	if peer, ok := t.peerOf(a); ok {
		whose = "a pod of " + peer.Name
	} else if _, ok := t.Pod(a); !ok {
		return false
	}
	name, _ := t.Owner(a)
	dev, _ := t.Link(name)
	for _, p := range dev.Addrs {
		if p.Addr() == a {
			t.lost(fmt.Sprintf("%s of this host has %s, the address of %s", name, a, whose), fmt.Sprintf("ip address del %s dev %s", p, name))
			return true
		}
	}
	return false
}

// switched delivers a packet between two pods of one bridge, which no route has to
// do with.
func (t *tracer) switched() bool {
	bridge, _ := t.Link(t.packet.In)
	if bridge.Kind != "bridge" || !t.forward {
		return false
	}
	if _, own := t.Owner(t.packet.Dst); own {
		return false // this host answers, on whichever device it has it
	}
	for _, p := range bridge.Addrs {
		if !p.Contains(t.packet.Dst) {
			continue
		}
		seen := "netfilter does not see it"
		t.packet.Out = bridge.Name
		call, family := "iptables", 0
		if t.packet.Dst.Is6() {
			call, family = "ip6tables", 1
		}
		if v, _ := t.Sysctl("net/bridge/bridge-nf-call-" + call); v == "1" || bridge.Calls[family] {
			seen = "netfilter sees it"
			if !t.rules(ruleset.Forward, t.packet) {
				return true
			}
		}
		t.hop(Hop{Step: "bridge", Text: fmt.Sprintf("%s switches it without a route; %s", bridge.Name, seen), Device: bridge.Name, MTU: bridge.MTU})
		t.toPod(bridge)
		return true
	}
	return false
}
