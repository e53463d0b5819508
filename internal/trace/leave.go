package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"tulle/internal/ruleset"
)

// leave sends the packet out by a device.
func (t *tracer) leave(r Route, link Link) {
	switch {
	case t.trace.End.Where != "":
		return
	case !link.Up:
		t.lost(fmt.Sprintf("%s is down", r.Dev), "ip link set "+r.Dev+" up")
		return
	case !link.Carrier && link.Kind != "bridge":
		t.lost(fmt.Sprintf("%s has no carrier", r.Dev), "look at the cable, or at the other end of "+r.Dev)
		return
	}
	next := r.Via
	if !next.IsValid() {
		next = t.packet.Dst
	}
	if r.NexthopID != 0 {
		t.hop(Hop{Step: "nexthop", Text: fmt.Sprintf("id %d via %s dev %s", r.NexthopID, r.Via, r.Dev), Device: r.Dev, MTU: link.MTU})
	}
	switch link.Kind {
	case "vxlan":
		t.tunnel(link, next)
	case "bridge":
		t.toPod(link)
	default:
		t.wire(link, next)
	}
}

// tunnel sends the packet to another node by VXLAN.
func (t *tracer) tunnel(dev Link, next netip.Addr) {
	n, ok := t.Neigh(dev.Name, next)
	if !ok || n.MAC == "" {
		t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("no row for %s", next), Device: dev.Name})
		t.lost(fmt.Sprintf("%s has no neighbour row for %s, and asks nobody", dev.Name, next), "systemctl restart tulled, which writes it")
		return
	}
	t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("%s lladdr %s %s", next, n.MAC, n.State), Device: dev.Name})
	row, ok := t.FDB(dev.Name, n.MAC)
	if !ok || !row.Dst.IsValid() {
		t.hop(Hop{Step: "fdb", Text: "no row for " + n.MAC, Device: dev.Name})
		t.lost(fmt.Sprintf("%s has no FDB row for %s, so it sends the frame nowhere", dev.Name, n.MAC), "systemctl restart tulled, which writes it")
		return
	}
	t.hop(Hop{Step: "fdb", Text: fmt.Sprintf("%s dst %s, VNI %d, UDP port %d", n.MAC, row.Dst, dev.VNI, dev.Port), Device: dev.Name, MTU: dev.MTU})
	t.underlay(dev, row.Dst)
	if t.trace.End.Where != "" {
		return
	}
	peer, ok := t.peerAt(row.Dst)
	holds := ""
	if ok && !slices.ContainsFunc(peer.Subnets, func(s netip.Prefix) bool { return s.Contains(t.packet.Dst) }) {
		t.lost(fmt.Sprintf("the rows lead to %s at %s, which does not hold %s", peer.Name, row.Dst, t.packet.Dst), "tullectl peers; systemctl restart tulled")
		return
	}
	if !ok {
		peer.Name = "a node"
	} else {
		holds = fmt.Sprintf(", which holds %s", peer.subnetOf(t.packet.Dst))
	}
	t.trace.End = End{Where: AtNode, Text: fmt.Sprintf("at %s, %s%s; go on there with: tullectl trace %s", peer.Name, row.Dst, holds, t.packet.Dst), Node: peer.Name, Addr: row.Dst}
}

func (p Peer) subnetOf(a netip.Addr) netip.Prefix {
	for _, s := range p.Subnets {
		if s.Contains(a) {
			return s
		}
	}
	return netip.Prefix{}
}

// Overhead is what VXLAN adds to a packet, by the family of the outer one: the
// headers of IP, UDP and VXLAN, and of the inner Ethernet frame.
func Overhead(outer netip.Addr) int {
	if outer.Is6() {
		return 40 + 8 + 8 + 14
	}
	return 20 + 8 + 8 + 14
}

// underlay follows the outer packet.
func (t *tracer) underlay(dev Link, to netip.Addr) {
	r, err := t.Route(Question{Dst: to, Src: dev.Local})
	if err != nil {
		t.hop(Hop{Step: "underlay", Text: err.Error()})
		t.lost(fmt.Sprintf("this host has no route to the other one at %s: %v", to, err), "ip route get "+to.String())
		return
	}
	link, _ := t.Link(r.Dev)
	mtu := cmp.Or(r.MTU, link.MTU)
	t.hop(Hop{Step: "underlay", Text: r.String(), Device: r.Dev, MTU: mtu})
	switch {
	case r.Type != "unicast":
		t.lost(fmt.Sprintf("the way to the other host at %s is refused: %s", to, r), r.without())
		return
	case !link.Up:
		t.lost(fmt.Sprintf("%s, which leads to the other host, is down", r.Dev), "ip link set "+r.Dev+" up")
		return
	}
	if most := mtu - Overhead(to); dev.MTU > most {
		t.fault("%s has an MTU of %d and %s leaves it %d: larger packets are lost", dev.Name, dev.MTU, r.Dev, most)
	}
	if owner, _ := t.Owner(dev.Local); owner != "" && owner != r.Dev {
		t.fault("the tunnel's own address %s is that of %s, and the way to %s is by %s", dev.Local, owner, to, r.Dev)
	}
	outer := ruleset.Packet{Out: r.Dev, Src: dev.Local, Dst: to, Proto: "udp", DPort: uint16(dev.Port)}
	if !t.rules(ruleset.Output, outer) {
		return
	}
	next := r.Via
	if !next.IsValid() {
		next = to
	}
	t.resolved(r.Dev, next)
}

// resolved tells the neighbour of a device that asks for MAC addresses.
func (t *tracer) resolved(dev string, next netip.Addr) {
	n, ok := t.Neigh(dev, next)
	switch {
	case !ok:
		t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("%s, not yet asked for its MAC address", next), Device: dev})
	case n.State == "failed" || n.State == "incomplete":
		t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("%s %s", next, n.State), Device: dev})
		t.lost(fmt.Sprintf("%s does not answer on %s when it is asked for its MAC address", next, dev), fmt.Sprintf("see whether that host runs, and whether its link and address are right: ping %s", next))
	default:
		t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("%s lladdr %s %s", next, n.MAC, n.State), Device: dev})
	}
}

// toPod delivers the packet to a pod of this host.
func (t *tracer) toPod(bridge Link) {
	a := t.packet.Dst
	pod, kept := t.Pod(a)
	n, known := t.Neigh(bridge.Name, a)
	if known && n.MAC != "" {
		t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("%s lladdr %s %s", a, n.MAC, n.State), Device: bridge.Name})
		if row, ok := t.FDB(bridge.Name, n.MAC); ok && row.Port != "" {
			pod.Veth = row.Port
		}
	} else {
		t.hop(Hop{Step: "neighbour", Text: fmt.Sprintf("%s, not yet asked for its MAC address", a), Device: bridge.Name})
	}
	veth, there := t.Link(pod.Veth)
	switch {
	case !there && kept:
		t.lost(fmt.Sprintf("the address is kept for a pod whose device %s is gone", pod.Veth), "delete the pod, and let its runtime call the CNI plugin's GC")
		return
	case !there:
		t.lost(fmt.Sprintf("no pod of this host has %s", a), "kubectl get pods --all-namespaces --output wide, or ls /var/lib/cni/networks/*")
		return
	case veth.Master == "":
		t.lost(fmt.Sprintf("%s is not a port of %s any more", veth.Name, bridge.Name), "ip link set "+veth.Name+" master "+bridge.Name)
		return
	}
	t.port(veth)
	if veth.Name == t.entry && t.packet.Translated && !veth.Hairpin && t.trace.End.Where == "" {
		t.lost(fmt.Sprintf("%s does not send back what came in by it, so the pod does not reach itself by a service", veth.Name), "bridge link set dev "+veth.Name+" hairpin on")
	}
	if t.trace.End.Where != "" {
		return
	}
	if pod.Name == "" {
		pod.Name = veth.Alias
	}
	pod.Addr = a
	text := fmt.Sprintf("at %s, behind %s of this host", pod, pod.Veth)
	if pod.Container != "" {
		text += ", container " + pod.Container
	}
	t.trace.End = End{Where: AtPod, Text: text, Pod: pod.Name}
}

// wire sends the packet to a host by a device of this one.
func (t *tracer) wire(link Link, next netip.Addr) {
	t.resolved(link.Name, next)
	if t.trace.End.Where != "" {
		return
	}
	if peer, ok := t.peerAt(next); ok {
		t.trace.End = End{Where: AtNode, Text: fmt.Sprintf("at %s, %s", peer.Name, next), Node: peer.Name, Addr: next}
		return
	}
	t.trace.End = End{Where: AtOutside, Text: fmt.Sprintf("outside of the pods' network, by %s and %s", link.Name, next), Addr: next}
}
