package trace

import (
	"fmt"
	"net/netip"
)

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
