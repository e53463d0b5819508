package reach

// Verdict is what a Sample means.
type Verdict string

// The verdicts.
const (
	Good Verdict = "good"
	// The node does not answer at all: it is down, or nothing leads to it.
	Silent Verdict = "silent"
	// The node answers outside of the overlay and not through it.
	Blocked Verdict = "blocked"
	// Small packets arrive and those of the MTU do not.
	Hole Verdict = "mtu-hole"
	// What has its checksum computed by the device does not arrive.
	Checksum Verdict = "checksum"
)

// Verdicts is all of them.
var Verdicts = []Verdict{Good, Silent, Blocked, Hole, Checksum}

// Verdict tells faults apart.
func (s Sample) Verdict() Verdict {
	switch {
	case s.Small == Lost && s.Direct == Answered:
		return Blocked
	case s.Small == Lost:
		return Silent
	case s.Full == Lost:
		return Hole
	case s.Offloaded == Lost && s.Computed == Answered:
		return Checksum
	}
	return Good
}

// Meaning says in a sentence what a verdict comes from and what to look at.
func (v Verdict) Meaning() string {
	switch v {
	case Silent:
		return "the node answers neither through the overlay nor outside of it; see whether it is up and whether the network leads there"
	case Blocked:
		return "the node answers, but not through the overlay; see whether a firewall on the way drops the backend's packets (VXLAN: its UDP port), and whether tulled runs there"
	case Hole:
		return "small packets arrive, full-sized ones do not; the network on the way carries less than the underlay device's MTU: lower Backend.MTU or raise that of the network"
	case Checksum:
		return "what the device computes the checksum of does not arrive; switch that off with ethtool -K DEVICE tx-checksum-ip-generic off, and look for a newer driver"
	}
	return "it is reached as pods are"
}
