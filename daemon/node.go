package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"

	"go.uber.org/zap"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/backend/kernel"
	"tulle/backend/vxlan"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// node is this host in one network: what its wanted state is computed from. It
// is complete, and does not change any more, when the lease is held.
type node struct {
	config config
	log    *zap.Logger
	store  *etcd.Store

	network  subnet.Network
	underlay backend.Underlay
	why      string // the underlay was chosen
	backend  backend.Backend
	device   string
	kernel   *kernel.Kernel
	self     subnet.Lease
}

// claim says what to ask of a network. The first call looks at the host and
// ends the start if anything is missing there, before a lease is taken. Later
// calls ask for the same again.
func (n *node) claim(network subnet.Network) (etcd.Claim, error) {
	if n.network != network && n.self == (subnet.Lease{}) {
		if err := n.prepare(network); err != nil {
			return etcd.Claim{}, err
		}
	}
	return etcd.Claim{
		Lease: subnet.Lease{
			Node:  n.config.Node,
			Addrs: n.config.public(n.underlay.Addrs),
			Type:  n.network.Backend.Type,
			Data:  n.backend.Data(n.config.Node),
		},
		Prefer: remembered(n.config),
	}, nil
}

// prepare chooses the underlay and the backend, and opens the kernel.
func (n *node) prepare(network subnet.Network) error {
	candidates, err := kernel.Candidates()
	if err != nil {
		return err
	}
	wish, err := n.wish()
	if err != nil {
		return err
	}
	if n.underlay, n.why, err = backend.ChooseUnderlay(candidates, wish); err != nil {
		return err
	}
	for _, p := range network.Pools {
		if p.IsValid() && p.Prefix.Contains(n.underlay.Addr()) {
			return fmt.Errorf("this host's address %s lies inside the pods' network %s; configure another Network, or another device with --iface", n.underlay.Addr(), p.Prefix)
		}
	}
	switch network.Backend.Type {
	case subnet.VXLAN:
		v := vxlan.New(network)
		n.backend, n.device = v, v.Device()
	default:
		return fmt.Errorf("backend %q is none of tulle's", network.Backend.Type)
	}
	const smallest = 576 // what every IPv4 host must take (RFC 791)
	if mtu := n.backend.MTU(n.underlay); mtu < smallest {
		return fmt.Errorf("an MTU of %d on %s leaves pods %d, too little to be useful", n.underlay.MTU, n.underlay.Dev, mtu)
	}
	if n.kernel != nil {
		if err := n.kernel.Close(); err != nil {
			return err
		}
	}
	n.kernel, err = kernel.Open(kernel.Config{Owner: n.owner(), Jumps: firewall.Jumps(network)})
	if err != nil {
		return err
	}
	n.network = network
	n.log.Info("underlay chosen", zap.String("dev", n.underlay.Dev), zap.Stringer("address", n.underlay.Addr()),
		zap.Int("mtu", n.underlay.MTU), zap.String("because", n.why), zap.Stringers("candidates", candidates))
	if !n.kernel.Nexthops() {
		n.log.Warn("this kernel has no nexthop objects (Linux 5.3); thousands of nodes will be slow to add")
	}
	return nil
}

// owner marks our devices; two daemons on one host have two prefixes.
func (n *node) owner() string { return "tulle " + n.config.Etcd.Prefix }

// wish is the operator's, with the kernel's answers that it needs.
func (n *node) wish() (backend.Wish, error) {
	w := backend.Wish{Ifaces: n.config.Ifaces, Regex: n.config.IfaceRegex}
	var err error
	if n.config.CanReach.IsValid() {
		if w.CanReach, err = kernel.RouteTo(n.config.CanReach); err != nil {
			return w, fmt.Errorf("--iface-can-reach: %w", err)
		}
	}
	for _, endpoint := range n.config.Etcd.Endpoints {
		a, ok := endpointAddr(endpoint)
		if !ok {
			continue
		}
		// A node may well run without a route to one of several endpoints.
		if w.Etcd, err = kernel.RouteTo(a); err == nil {
			break
		}
	}
	return w, nil
}

// endpointAddr finds the address that etcd has on the network. One on this host
// itself says nothing about the way to other hosts.
func endpointAddr(endpoint string) (netip.Addr, bool) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		ips, err := net.LookupIP(u.Hostname())
		if err != nil || len(ips) == 0 {
			return netip.Addr{}, false
		}
		a, _ = netip.AddrFromSlice(ips[0])
	}
	a = a.Unmap()
	return a, a.IsValid() && !a.IsLoopback()
}

// plan begins the wanted state with what the node needs without peers.
func (n *node) plan() *backend.Plan {
	in := backend.Input{
		Network: n.network, Underlay: n.underlay, Self: n.self,
		Owner: n.owner(), Nexthops: n.kernel.Nexthops(), Masq: n.config.Masq,
	}
	return backend.NewPlan(n.backend, in, firewall.Desired(in))
}

// file is what other programs of this host need to know.
func (n *node) file() subnet.File {
	f := subnet.File{MTU: n.backend.MTU(n.underlay), Masq: n.config.Masq}
	for i, s := range n.self.Subnets {
		if s.IsValid() {
			f.Networks[i], f.Subnets[i] = n.network.Pools[i].Prefix, subnet.Bridge(s)
		}
	}
	return f
}
