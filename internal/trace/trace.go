package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tulle/internal/ruleset"
)

// Trace is the way of a packet.
type Trace struct {
	Src  netip.Addr `json:"src,omitzero"`
	Dst  netip.Addr `json:"dst"`
	Hops []Hop      `json:"hops"`
	End  End        `json:"end"`
}

// Hop is one step of the way.
type Hop struct {
	Step   string         `json:"step"` // source, bridge, rules, route, nexthop, neighbour, fdb, underlay
	Text   string         `json:"text"`
	Device string         `json:"device,omitempty"`
	MTU    int            `json:"mtu,omitempty"` // of the device, or of the route
	Rules  []ruleset.Step `json:"rules,omitempty"`
	// Fault is what is wrong here, though the packet may go on.
	Fault string `json:"fault,omitempty"`
}

// Where a way ends.
const (
	AtPod     = "pod"     // of this host
	AtHost    = "host"    // this one
	AtNode    = "node"    // another one of the network
	AtOutside = "outside" // of the network
	Nowhere   = "nowhere"
)

// End is where the way ends.
type End struct {
	Where string     `json:"where"`
	Text  string     `json:"text"`
	Node  string     `json:"node,omitempty"`   // AtNode
	Addr  netip.Addr `json:"address,omitzero"` // of the node, or of the gateway to the outside
	Pod   string     `json:"pod,omitempty"`    // AtPod
	Why   string     `json:"why,omitempty"`    // Nowhere
	Mend  string     `json:"mend,omitempty"`   // what to do
}

// Lost reports whether the packet does not arrive.
func (t Trace) Lost() bool { return t.End.Where == Nowhere }

// Faults are those of all hops.
func (t Trace) Faults() []string {
	var all []string
	for _, h := range t.Hops {
		if h.Fault != "" {
			all = append(all, h.Fault)
		}
	}
	return all
}

// tracer is a trace that is being made.
type tracer struct {
	World
	trace   Trace
	packet  ruleset.Packet
	entry   string // of a bridge, that the packet came in by
	forward bool   // it is not this host that sends it
}

// Follow follows a packet. Where no source is given, it is that of a pod of this
// host, or the host itself if there is none. proto and port choose among rules
// that ask for them; port may be 0.
func Follow(w World, src, dst netip.Addr, proto string, port uint16) Trace {
	t := &tracer{World: w, trace: Trace{Src: src, Dst: dst}, packet: ruleset.Packet{Dst: dst, Proto: proto, DPort: port}}
	t.begin(src)
	if t.trace.End.Where == "" {
		t.decide()
	}
	return t.trace
}

func (t *tracer) hop(h Hop) { t.trace.Hops = append(t.trace.Hops, h) }

func (t *tracer) fault(format string, args ...any) {
	if last := len(t.trace.Hops) - 1; t.trace.Hops[last].Fault == "" {
		t.trace.Hops[last].Fault = fmt.Sprintf(format, args...)
	}
}

// lost ends the way: why it does, and what to do.
func (t *tracer) lost(why, mend string) {
	t.trace.End = End{Where: Nowhere, Text: "nowhere: " + why, Why: why, Mend: mend}
}

// begin finds where the packet comes from.
func (t *tracer) begin(src netip.Addr) {
	if !src.IsValid() {
		pod, ok := t.AnyPod(t.trace.Dst)
		if !ok || pod.Addr == t.trace.Dst {
			t.hop(Hop{Step: "source", Text: "this host itself"})
			return
		}
		src = pod.Addr
		t.trace.Src = src
	}
	t.packet.Src = src
	if dev, ok := t.Owner(src); ok {
		t.hop(Hop{Step: "source", Text: fmt.Sprintf("this host itself, from %s of %s", src, dev), Device: dev})
		return
	}
	t.forward = true
	if pod, ok := t.Pod(src); ok {
		t.fromPod(pod)
		return
	}
	back, err := t.Route(Question{Dst: src})
	if err != nil {
		t.hop(Hop{Step: "source", Text: src.String()})
		t.lost(fmt.Sprintf("this host has no way back to %s", src), "ip route get "+src.String())
		return
	}
	if back.Type != "unicast" {
		t.hop(Hop{Step: "source", Text: src.String()})
		t.refusedBy(src, back)
		return
	}
	t.packet.In = back.Dev
	link, _ := t.Link(back.Dev)
	from := "another host"
	if p, ok := t.peerOf(src); ok {
		from = "a pod of " + p.Name
	}
	t.hop(Hop{Step: "source", Text: fmt.Sprintf("%s, %s, that comes in by %s", src, from, back.Dev), Device: back.Dev, MTU: link.MTU})
}

func (t *tracer) fromPod(pod Pod) {
	veth, ok := t.Link(pod.Veth)
	t.hop(Hop{Step: "source", Text: fmt.Sprintf("%s, behind %s", pod, pod.Veth), Device: pod.Veth, MTU: veth.MTU})
	switch {
	case !ok:
		t.lost(fmt.Sprintf("the address is kept for a pod whose device %s is gone", pod.Veth), "delete the pod, and let its runtime call the CNI plugin's GC")
	case veth.Master == "":
		t.lost(fmt.Sprintf("%s is not a port of a bridge any more", veth.Name), "ip link set "+veth.Name+" master cni0")
	default:
		t.packet.In, t.entry = veth.Master, veth.Name
		t.port(veth)
	}
}

// port passes a bridge by one of its ports.
func (t *tracer) port(veth Link) {
	bridge, _ := t.Link(veth.Master)
	t.hop(Hop{Step: "bridge", Text: fmt.Sprintf("%s, port %s, %s", bridge.Name, veth.Name, veth.State), Device: bridge.Name, MTU: bridge.MTU})
	switch {
	case !bridge.Up:
		t.lost(fmt.Sprintf("the bridge %s is down", bridge.Name), "ip link set "+bridge.Name+" up")
	case !veth.Up:
		t.lost(fmt.Sprintf("%s is down", veth.Name), "ip link set "+veth.Name+" up")
	case !veth.Carrier:
		t.lost(fmt.Sprintf("%s has no carrier: the pod's own device at its other end is down", veth.Name), "start the pod anew")
	case veth.State != "forwarding":
		t.lost(fmt.Sprintf("the port %s of %s is %s", veth.Name, bridge.Name, veth.State), "bridge link set dev "+veth.Name+" state 3")
	}
}

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
	t.hop(Hop{Step: "route", Text: route.String(), Device: route.Dev, MTU: cmpOr(route.MTU, link.MTU)})
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

func cmpOr(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

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

// refused ends the way of a packet that settings of the device that it came in by
// keep out. The kernel itself then only says that there is no route.
func (t *tracer) refused() bool {
	if !t.forward {
		return false
	}
	if _, local := t.Owner(t.packet.Dst); !local {
		if dev, setting, off := t.closed(); off {
			t.lost(fmt.Sprintf("%s does not forward what comes in by it", dev), "sysctl -w "+setting+"=1")
			return true
		}
	}
	t.reverse()
	return t.trace.End.Where != ""
}

// closed reports whether the device that the packet comes in by does not
// forward, and the setting.
func (t *tracer) closed() (dev, setting string, off bool) {
	family := "ipv4"
	if t.packet.Dst.Is6() {
		family = "ipv6"
	}
	dev = t.packet.In
	if family == "ipv6" {
		dev = "all" // what a device says there is another thing
	}
	setting = fmt.Sprintf("net.%s.conf.%s.forwarding", family, strings.ReplaceAll(dev, ".", "/"))
	value, ok := t.Sysctl("net/" + family + "/conf/" + dev + "/forwarding")
	return dev, setting, ok && value == "0"
}

// reverse ends the way of a packet that its device drops because answers would go
// another way.
func (t *tracer) reverse() {
	if !t.packet.Src.Is4() {
		return
	}
	strict := "0"
	for _, dev := range []string{"all", t.packet.In} {
		if v, _ := t.Sysctl("net/ipv4/conf/" + dev + "/rp_filter"); v > strict {
			strict = v
		}
	}
	if strict != "1" {
		return
	}
	back, err := t.Route(Question{Dst: t.packet.Src})
	if err != nil || back.Dev != t.packet.In {
		t.lost(fmt.Sprintf("rp_filter of %s drops it, for the way back to %s is by %s", t.packet.In, t.packet.Src, orNone(back.Dev)),
			fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", strings.ReplaceAll(t.packet.In, ".", "/")))
	}
}

func orNone(dev string) string {
	if dev == "" {
		return "no device"
	}
	return dev
}
