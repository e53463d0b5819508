package backend

import "tulle/subnet"

// Backend is a way to carry pod packets between nodes. Its methods are pure:
// no clock, no I/O, the same answer for the same arguments.
type Backend interface {
	// Data is what this node's lease tells its peers, by Family of the subnet.
	Data(node string) [2]string
	// Device is the name of the device of ours that pods' packets leave by; empty
	// where they leave by the underlay's own.
	Device() string
	// MTU is the largest packet that pods may send over the underlay.
	MTU(Underlay) int
	// Node is the rows that the node needs whoever its peers are.
	Node(Input) State
	// Peer is the rows that lead to one peer. The error says why its lease makes
	// no sense, looked at alone.
	Peer(Input, subnet.Lease) ([]Entry, error)
}

// Input is what a State is computed from, together with the peers' leases.
type Input struct {
	Network  subnet.Network
	Underlay Underlay
	Self     subnet.Lease
	Owner    string // whose the devices are; see Link.Owner
	Scope    string // in the names of firewall chains; empty for the only network of a host
	Nexthops bool   // the kernel has nexthop objects
	Masq     bool   // masquerade what leaves the cluster
	Guard    GuardMode
	Firewall Tool // IPTables or NFTables
	// Advertised are the devices that follow router advertisements and must go on
	// doing so when the host forwards.
	Advertised []string
}
