package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/backend/hostgw"
	"tulle/backend/kernel"
	"tulle/backend/vxlan"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// site is this host in one network: what its wanted state is computed from,
// besides the peers' leases.
type site struct {
	network  subnet.Network
	underlay backend.Underlay
	why      string       // the underlay was chosen
	self     subnet.Lease // zero until it is held
	// advertised are the devices that followed router advertisements when the
	// host did not forward yet.
	advertised []string
}

// same reports whether two sites lead to the same wanted state.
func (s site) same(t site) bool {
	return s.network == t.network && s.underlay.Equal(t.underlay) && s.self == t.self && slices.Equal(s.advertised, t.advertised)
}

// survey looks at the host and says how it would take part in a network. It
// changes nothing.
// What it was before matters in part: see past.
func survey(c config, n *names, network subnet.Network, before past) (site, []backend.Candidate, error) {
	s := site{network: network}
	candidates, err := kernel.Candidates()
	if err != nil {
		return s, nil, err
	}
	candidates, inside := backend.Outside(candidates, network)
	w, err := wish(c, n, network, before.addrs)
	if err != nil {
		return s, candidates, err
	}
	if s.underlay, s.why, err = backend.ChooseUnderlay(candidates, w); err != nil {
		if len(inside) > 0 {
			err = fmt.Errorf("%w; %s lies inside the pods' network, so choose another Network for these hosts", err, backend.Names(inside))
		}
		return s, candidates, err
	}
	for _, c := range candidates {
		if c.Advertised || slices.Contains(before.advertised, c.Dev) {
			s.advertised = append(s.advertised, c.Dev)
		}
	}
	if network.Pools[subnet.IPv6].IsValid() && !kernel.HasIPv6() {
		return s, candidates, fmt.Errorf("the network has the IPv6 prefix %s, and this kernel has no IPv6; start it without ipv6.disable=1",
			network.Pools[subnet.IPv6].Prefix)
	}
	return s, candidates, s.check()
}

// check returns an error if the network can't work on this host.
func (s site) check() error {
	mtu := s.backend().MTU(s.underlay)
	const smallest = 576 // what every IPv4 host must take (RFC 791)
	if mtu < smallest {
		return fmt.Errorf("an MTU of %d on %s leaves pods %d, too little to be useful", s.underlay.MTU, s.underlay.Dev, mtu)
	}
	const smallest6 = 1280 // the kernel takes IPv6 away from a device with less (RFC 8200)
	if mtu < smallest6 && s.network.Pools[subnet.IPv6].IsValid() {
		return fmt.Errorf("an MTU of %d on %s leaves pods %d, and IPv6 needs %d; raise it, or leave IPv6 out of the network", s.underlay.MTU, s.underlay.Dev, mtu, smallest6)
	}
	return nil
}

// backend is the one that the network names. ParseNetwork knows no other than
// these.
func (s site) backend() backend.Backend {
	switch s.network.Backend.Type {
	case subnet.VXLAN:
		return vxlan.New(s.network)
	case subnet.HostGW:
		return hostgw.New(s.network)
	}
	panic("no backend " + s.network.Backend.Type)
}

// lease is what this host says of itself, but for its subnets.
func (s site) lease(c config) subnet.Lease {
	return subnet.Lease{
		Node:  c.Node,
		Addrs: c.public(s.underlay.Addrs),
		Type:  s.network.Backend.Type,
		Data:  s.backend().Data(c.Node),
	}
}

// plan begins the wanted state with what the node needs without peers.
func (s site) plan(c config, host backend.Input) *backend.Plan {
	in := s.input(c, host)
	node := firewall.Desired(in)
	for _, own := range s.self.Subnets {
		if own.IsValid() {
			node.Add(backend.Bridge{Addr: subnet.Bridge(own).Addr(), MTU: s.backend().MTU(s.underlay)})
			break // both families have one
		}
	}
	return backend.NewPlan(s.backend(), in, node)
}

// input is what the wanted state is computed from: what the host can, and the
// site.
func (s site) input(c config, host backend.Input) backend.Input {
	in := host
	in.Network, in.Underlay, in.Self, in.Owner, in.Scope, in.Masq = s.network, s.underlay, s.self, owner(c), scope(c), c.Masq
	in.Advertised = s.advertised
	return in
}

// owner marks our devices; two daemons on one host have two prefixes.
func owner(c config) string { return "tulle " + c.Etcd.Prefix }

// scope tells the names of our firewall chains from those of another daemon on this
// host. Where nothing is said of the prefix there is nearly always one daemon, and
// the names are without.
func scope(c config) string {
	if c.Etcd.Prefix == etcd.DefaultPrefix {
		return ""
	}
	sum := sha256.Sum256([]byte(c.Etcd.Prefix))
	return hex.EncodeToString(sum[:4])
}

// file is what other programs of this host need to know.
func (s site) file(c config) subnet.File {
	f := subnet.File{MTU: s.backend().MTU(s.underlay), Masq: c.Masq}
	for i, own := range s.self.Subnets {
		if own.IsValid() {
			f.Networks[i], f.Subnets[i] = s.network.Pools[i].Prefix, subnet.Bridge(own)
		}
	}
	return f
}

// follows reports whether the site can become one in another network without a
// restart: the node's subnet is one of it, in the same families.
func (s site) follows(network subnet.Network) bool {
	for f, p := range network.Pools {
		if p.IsValid() != s.network.Pools[f].IsValid() {
			return false
		}
	}
	return network.Contains(s.self)
}

// wish is the operator's, with the kernel's answers that it needs.
func wish(c config, n *names, network subnet.Network, had [2]netip.Addr) (backend.Wish, error) {
	w := backend.Wish{Families: network.Underlay(), Had: had, Ifaces: c.Ifaces, Regex: c.IfaceRegex}
	var err error
	if c.CanReach.IsValid() {
		if w.CanReach, err = kernel.RouteTo(c.CanReach); err != nil {
			return w, fmt.Errorf("--iface-can-reach: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	for _, endpoint := range c.Etcd.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Hostname() == "" {
			continue
		}
		a := n.addr(ctx, u.Hostname())
		switch {
		case !a.IsValid():
			w.Stay = true // until somebody tells the name's address
			continue
		case a.IsLoopback():
			continue // it says nothing about the way to other hosts
		}
		// A node may well run without a route to one of several endpoints.
		if w.Etcd, err = kernel.RouteTo(a); err == nil {
			break
		}
	}
	return w, nil
}

// claim is what to ask of the network for a site.
func (s site) claim(c config, prefer [2]netip.Prefix) etcd.Claim {
	claim := etcd.Claim{Lease: s.lease(c), Prefer: prefer, Answers: answers}
	if s.self != (subnet.Lease{}) {
		claim.Prefer, claim.Only = s.self.Subnets, true
	}
	return claim
}

// answerTime is how long a host may take to answer.
const answerTime = 500 * time.Millisecond

// answers reports whether another host answers at an address: it accepts or
// refuses a connection, where one that is not there does neither.
func answers(a netip.Addr) bool {
	if local(a) {
		return false
	}
	const discard = 9 // port; hardly anybody listens there
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, discard).String(), answerTime)
	if err == nil {
		conn.Close()
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// local reports whether an address is one of this host's own.
func local(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, own := range addrs {
		if p, err := netip.ParsePrefix(own.String()); err == nil && p.Addr() == a {
			return true
		}
	}
	return false
}
