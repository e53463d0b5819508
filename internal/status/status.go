// Package status is what tulled says of itself: the answer of /state, which
// tullectl reads.
package status

import "time"

// Node is the state of one node's daemon.
type Node struct {
	Name     string    `json:"node"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	Phase    string    `json:"phase"` // what it does or waits for
	Etcd     Etcd      `json:"etcd"`
	Network  string    `json:"network,omitempty"` // as configured in etcd
	Underlay *Underlay `json:"underlay,omitempty"`
	Lease    *Lease    `json:"lease,omitempty"`
	Device   string    `json:"device,omitempty"`
	MTU      int       `json:"mtu,omitempty"` // of pods
	Peers    []Peer    `json:"peers"`
	// BadKeys are the keys among the leases that are none, with the reason.
	BadKeys  map[string]string `json:"badKeys,omitempty"`
	LastPass *Pass             `json:"lastPass,omitempty"`
	// Troubles are the faults that last, as the log told when they began.
	Troubles []string `json:"troubles,omitempty"`

	// Rows of the kernel, in the words of ip(8).
	Want       []string `json:"want"`
	Have       []string `json:"have"`
	Difference []string `json:"difference"`
	// KernelErr says why Have and Difference are not known.
	KernelErr string `json:"kernelError,omitempty"`
}

// Etcd is the connection to etcd.
type Etcd struct {
	Endpoints []string `json:"endpoints"`
	Prefix    string   `json:"prefix"`
	Connected bool     `json:"connected"`
	Revision  int64    `json:"revision"` // of the last snapshot

	// By what tulled makes itself known. A password itself is not told.
	CAFile       string `json:"caFile,omitempty"`
	CertFile     string `json:"certFile,omitempty"`
	KeyFile      string `json:"keyFile,omitempty"`
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
}

// Underlay is the device towards the other nodes.
type Underlay struct {
	Dev     string `json:"device"`
	Address string `json:"address"`
	MTU     int    `json:"mtu"`
	Why     string `json:"why"` // it was chosen
	// Others are the devices that were not.
	Others []string `json:"others,omitempty"`
}

// Lease is a subnet and who holds it.
type Lease struct {
	Node    string   `json:"node,omitempty"`
	Subnets []string `json:"subnets"`
	Address string   `json:"address"`
	Backend string   `json:"backend"`

	Addresses []string `json:"addresses,omitempty"` // of both families, where there are two
}

// Peer is another node.
type Peer struct {
	Lease
	// VTEP is the end of the tunnel to it; nil where there is none.
	VTEP *VTEP `json:"vtep,omitempty"`
	// Programmed says that all of its rows are in the kernel.
	Programmed bool     `json:"programmed"`
	Missing    []string `json:"missing,omitempty"`
	// LeftOut says why its lease makes no sense; empty if it does.
	LeftOut string `json:"leftOut,omitempty"`
	// Awaited says that its subnet is reserved and it has not come yet.
	Awaited bool `json:"awaited,omitempty"`
	// Reach is how it is reached through the overlay, once that is known.
	Reach *Reach `json:"reach,omitempty"`
}

// VTEP is the end of the tunnel at a node.
type VTEP struct {
	Address string `json:"address"`
	MAC     string `json:"mac"`
}

// Pass is what the reconciler did last.
type Pass struct {
	At      time.Time `json:"at"`
	Why     string    `json:"why"`
	Changes int       `json:"changes"`
	Error   string    `json:"error,omitempty"`
}
