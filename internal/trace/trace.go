package trace

import (
	"fmt"
	"net/netip"

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
