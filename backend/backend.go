package backend

import "tulle/subnet"

// Backend is a way to carry pod packets between nodes. Its methods are pure:
// no clock, no I/O, the same answer for the same arguments.
type Backend interface {
	// Data is what this node's lease tells its peers, by Family of the subnet.
	Data(node string) [2]string
	// MTU is the largest packet that pods may send over the underlay.
	MTU(Underlay) int
	// Desired is the kernel state that carries packets to the peers. A peer
	// whose lease makes no sense is left out and named in the error, which
	// joins a *PeerError for each; the State is complete for all others.
	Desired(Input) (State, error)
}

// Input is all that a State is computed from.
type Input struct {
	Network  subnet.Network
	Underlay Underlay
	Self     subnet.Lease
	Peers    []subnet.Lease // in order of creation
	Owner    string         // whose the devices are; see Link.Owner
	Nexthops bool           // the kernel has nexthop objects
	Masq     bool           // masquerade what leaves the cluster
}

// PeerError says why a peer's lease was left out.
type PeerError struct {
	Lease subnet.Lease
	Err   error
}

func (e *PeerError) Error() string { return "peer " + e.Lease.String() + ": " + e.Err.Error() }

func (e *PeerError) Unwrap() error { return e.Err }
