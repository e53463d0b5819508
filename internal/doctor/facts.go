// Package doctor says from facts about a host what is wrong with it, and which
// command mends it. It is pure: package look and tullectl gather the facts.
package doctor

import (
	"net/netip"
	"time"

	"tulle/internal/reach"
	"tulle/internal/ruleset"
	"tulle/internal/status"
	"tulle/internal/trace"
	"tulle/subnet"
)

// Facts are what was found out about a host. What could not be found out is zero,
// and says why where that matters.
type Facts struct {
	Started bool // tulled answers; State is what it says
	State   status.Node
	Silent  string // why tulled does not answer
	Hangs   bool   // it runs all the same
	Unasked bool   // systemd runs it, and will not start it at boot

	Subnets [2]netip.Prefix // of this node; from tulled, or else from its files
	Etcd    Etcd
	Kernel  Kernel
	Links   []trace.Link
	Bridge  string            // of the pods
	Pods    []trace.Pod       // of this host, whose devices are there
	Sysctls map[string]string // by path below /proc/sys; without those that are not there
	Ways    []Way             // to peers
	Back    []Way             // from peers to a pod of this host
	Drops   []Drop
	Unread  []string // rules of netfilter that could not be read
	Reached []Reach  // peers that were tried
	Twice   []Twice  // addresses of this host that others have as well
	Disks   []Disk
	CNI     CNI
	File    string // what is wrong with the subnet file; empty: nothing
}

// Etcd is what etcd answers.
type Etcd struct {
	Asked     bool // or else it is not known where it is
	Silent    string
	Refused   string // reading
	ReadOnly  string // writing, where reading is allowed
	NoNetwork string // there is none, or it is not valid
	Skew      time.Duration
	SkewKnown bool
	Lease     string // what is wrong with this node's lease in it
	CertFile  string
	CertLeft  time.Duration // until CertFile runs out, where that is known
}

// Kernel is what the kernel can do.
type Kernel struct {
	VXLAN, Nexthops, NFTables bool
	Conntracks, ConntrackMost int // 0: not known
	Iptables                  bool
}

// Way is the way of a packet between this node and another one.
type Way struct {
	Peer  string
	Trace trace.Trace
}

// Drop is a rule that drops what the network needs.
type Drop struct {
	What string // such as "what pods send to other nodes"
	Rule ruleset.Step
}

// Reach is how a peer answers.
type Reach struct {
	Peer     string
	Target   reach.Target
	Port     int // of VXLAN; 0: there is no tunnel, but plain routes
	Overhead int

	reach.Sample
	Largest int           // that came through, if those of the MTU were lost
	Wrapped reach.Outcome // a small packet with checksums that software made, if others were lost
}

// Twice is an address of this host that another one answers for.
type Twice struct {
	Addr netip.Addr
	Dev  string
	MAC  string // of the other; empty where it is not known
}

// Disk is a directory that tulled writes to.
type Disk struct {
	Path     string
	ReadOnly bool
	Free     uint64 // bytes
	NoInodes bool
	Err      string
}

// CNI is how container runtimes of this host are configured.
type CNI struct {
	Runtime string // its socket; empty: there is none
	Dir     string
	Confs   []Conf // in the order in which runtimes look at them
	Plugin  string // what is wrong with the program tulle; empty: nothing
	Path    string // where it should be
	Config  string // the runtime's, if that says where
	There   string // where the program is instead, if it is
}

// Conf is a file of a CNI configuration.
type Conf struct {
	File    string
	Plugins []string // their types
	Err     string

	Bridge, SubnetFile string // of the plugin tulle; empty: the default
}

// Network is that which tulled follows, if it is known.
func (f Facts) Network() (subnet.Network, bool) {
	if f.State.Network == "" {
		return subnet.Network{}, false
	}
	n, err := subnet.ParseNetwork([]byte(f.State.Network))
	return n, err == nil
}

func (f Facts) link(name string) (trace.Link, bool) {
	for _, l := range f.Links {
		if l.Name == name {
			return l, true
		}
	}
	return trace.Link{}, false
}
