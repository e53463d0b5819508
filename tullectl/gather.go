package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tulle/internal/doctor"
	"tulle/internal/flags"
	"tulle/internal/look"
	"tulle/internal/reach"
	"tulle/internal/ruleset"
	"tulle/internal/status"
	"tulle/internal/trace"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// gather finds out all that doctor judges. Where etcd is is only known if it is
// given, or if tulled tells.
func gather(ctx context.Context, p places, c etcd.Config, given bool, tried int) (doctor.Facts, error) {
	k := p.read(ctx)
	if k.state != nil && len(k.state.Difference) > 0 {
		// It may be about to be put right.
		time.Sleep(time.Second)
		k = p.read(ctx)
	}
	host, err := look.Open()
	if err != nil {
		return doctor.Facts{}, err
	}
	host.Know(k.networks(), k.peers())
	f := doctor.Facts{
		Subnets: k.subnets(), Kernel: host.Kernel(), Links: host.Links(), Pods: host.Pods(), Sysctls: host.Sysctls(), CNI: look.CNI(),
		Disks: []doctor.Disk{look.Disk(p.stateDir), look.Disk(parent(p.subnetFile))},
	}
	if k.state != nil {
		f.Started, f.State, f.Unasked = true, *k.state, look.Unasked()
		if !given {
			c, given = like(k.state.Etcd, c)
		}
	} else {
		f.Silent, f.Hangs = k.stateErr.Error(), errors.Is(k.stateErr, context.DeadlineExceeded)
		f.State = k.remembered(host)
	}
	if k.fileErr != nil && (k.state == nil || k.state.Ready) {
		f.File = k.fileErr.Error()
	}
	f.State.Etcd.Prefix = cmp.Or(f.State.Etcd.Prefix, c.Prefix)
	f.Bridge = bridgeOf(f, p.subnetFile)
	// What has to be waited for is asked for at the same time.
	var (
		wait    sync.WaitGroup
		store   = f.Etcd
		doubles = f.Twice
		over    = f.State.Underlay
	)
	switch {
	case given:
		wait.Go(func() { store = etcdFacts(ctx, c, k) })
	case k.state != nil && !k.state.Etcd.Connected:
		store = doctor.Etcd{Asked: true, Silent: "tulled has no connection to " + strings.Join(k.state.Etcd.Endpoints, " or ")}
	}
	wait.Go(func() { doubles = twice(ctx, host, over) })
	peers := chosen(k.peers(), k.leftOut(), tried)
	asked := netip.AddrPort{}
	if f.Hangs {
		asked, _ = netip.ParseAddrPort(p.tulled.addr) // none: it is a name
	}
	f.Drops, f.Unread = drops(host, f, peers, asked)
	f.Ways, f.Back = ways(host, f, peers)
	f.Reached = reached(ctx, host, f, peers)
	wait.Wait()
	f.Etcd, f.Twice = store, doubles
	return f, nil
}

// like is how tulled asks etcd, but for what c says otherwise, and whether that can
// be done here: only tulled knows a password that is in no file, only root can
// read files that are for root, and those of a tulled in a container are there.
func like(e status.Etcd, c etcd.Config) (etcd.Config, bool) {
	c.Endpoints, c.Prefix = e.Endpoints, e.Prefix
	if c.CAFile == "" {
		c.CAFile = e.CAFile
	}
	if c.CertFile == "" && c.KeyFile == "" {
		c.CertFile, c.KeyFile = e.CertFile, e.KeyFile
	}
	if c.Username == "" && c.Password == "" && c.PasswordFile == "" {
		c.Username, c.PasswordFile = e.Username, e.PasswordFile
	}
	known := c.Username == "" || c.Password != "" || c.PasswordFile != ""
	err := c.Check()
	return c, known && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist)
}

func parent(path string) string { return path[:max(1, strings.LastIndex(path, "/"))] }

// key is that of this node's lease.
func (k known) key() string {
	subnets := k.subnets()
	if subnets == [2]netip.Prefix{} {
		return ""
	}
	return subnet.Lease{Subnets: subnets}.Key()
}

// subnets are this node's.
func (k known) subnets() [2]netip.Prefix {
	var subnets [2]netip.Prefix
	switch {
	case k.state != nil && k.state.Lease != nil:
		for _, text := range k.state.Lease.Subnets {
			if s, err := netip.ParsePrefix(text); err == nil {
				subnets[subnet.FamilyOf(s.Addr())] = s
			}
		}
	case k.state != nil: // it waits
	case k.memErr == nil:
		subnets = k.memory.Self.Subnets
	case k.fileErr == nil:
		for f, s := range k.file.Subnets {
			if s.IsValid() {
				subnets[f] = s.Masked()
			}
		}
	}
	return subnets
}

// leftOut are the nodes that tulled does not follow.
func (k known) leftOut() map[string]bool {
	names := map[string]bool{}
	if k.state != nil {
		for _, p := range k.state.Peers {
			names[p.Node] = p.LeftOut != ""
		}
	}
	return names
}

// remembered is what a tulled that does not answer would say that does not
// change by itself.
func (k known) remembered(host *look.Host) status.Node {
	n := status.Node{}
	if k.memErr == nil {
		n.Network = string(k.memory.Network.JSON())
		for _, a := range k.memory.Self.Addrs {
			if dev, ok := host.Owner(a); ok {
				l, _ := host.Link(dev)
				n.Underlay = &status.Underlay{Dev: dev, Address: a.String(), MTU: l.MTU}
				break
			}
		}
	}
	if k.fileErr == nil {
		n.MTU = k.file.MTU
	}
	for _, l := range host.Links() {
		if l.Kind == "vxlan" && strings.HasPrefix(l.Alias, "tulle ") {
			n.Device = l.Name
		}
	}
	return n
}

// chosen are the peers to try.
func chosen(peers []trace.Peer, leftOut map[string]bool, most int) []trace.Peer {
	peers = slices.DeleteFunc(peers, func(p trace.Peer) bool { return leftOut[p.Name] || len(p.Subnets) == 0 || len(p.Addrs) == 0 })
	if len(peers) > most {
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		peers = peers[:max(0, most)]
	}
	return peers
}

// twice asks whether another host has the underlay's address.
func twice(ctx context.Context, host *look.Host, u *status.Underlay) []doctor.Twice {
	var found []doctor.Twice
	for _, l := range host.Links() {
		for _, a := range l.Twice {
			found = append(found, doctor.Twice{Addr: a, Dev: l.Name})
		}
	}
	if u == nil {
		return found
	}
	a, err := netip.ParseAddr(u.Address)
	if err != nil {
		return found
	}
	if mac, err := look.Twice(ctx, u.Dev, a); err == nil && mac != "" {
		found = append(found, doctor.Twice{Addr: a, Dev: u.Dev, MAC: mac})
	}
	return found
}

// bridgeOf is the pods' bridge: the one with an address of this node's subnet, or
// else that of the plugin's configuration for our subnet file. Of another network
// than the first it may be unknown.
func bridgeOf(f doctor.Facts, subnetFile string) string {
	for _, l := range f.Links {
		for _, a := range l.Addrs {
			if own := f.Subnets[subnet.FamilyOf(a.Addr())]; l.Kind == "bridge" && own.IsValid() && own.Contains(a.Addr()) {
				return l.Name
			}
		}
	}
	for _, c := range f.CNI.Confs {
		if slices.Contains(c.Plugins, "tulle") && c.Bridge != "" && cmp.Or(c.SubnetFile, flags.SubnetFile) == subnetFile {
			return c.Bridge
		}
	}
	if subnetFile != flags.SubnetFile {
		return ""
	}
	return "cni0"
}

// ordinaryPort is one that no rule is about: whether a firewall lets it pass tells
// whether it lets pods talk.
const ordinaryPort = 47113

// podOf is an address that a pod of a subnet could have.
func podOf(s netip.Prefix) netip.Addr { return s.Masked().Addr().Next().Next() }

// drops follows what the network needs through the rules of netfilter, and what
// asks a tulled that does not answer.
func drops(host *look.Host, f doctor.Facts, peers []trace.Peer, asked netip.AddrPort) ([]doctor.Drop, []string) {
	rules := host.Rules()
	var found []doctor.Drop
	try := func(what string, hook ruleset.Hook, p ruleset.Packet) {
		if path := rules.Through(hook, p); path.By != nil {
			found = append(found, doctor.Drop{What: what, Rule: *path.By})
		}
	}
	if asked.IsValid() {
		ask := ruleset.Packet{Out: "lo", Src: asked.Addr(), Dst: asked.Addr(), Proto: "tcp", DPort: asked.Port()}
		try("what asks tulled on this host", ruleset.Output, ask)
		ask.In, ask.Out = "lo", ""
		try("what asks tulled on this host", ruleset.Input, ask)
	}
	tunnel, hasTunnel := host.Link(f.State.Device)
	for _, peer := range peers {
		for _, theirs := range peer.Subnets {
			ours := f.Subnets[subnet.FamilyOf(theirs.Addr())]
			r, err := host.Route(trace.Question{Dst: podOf(theirs)})
			if !ours.IsValid() || err != nil {
				continue
			}
			for _, proto := range []string{"tcp", "udp"} {
				out := ruleset.Packet{In: f.Bridge, Src: podOf(ours), Dst: podOf(theirs), Proto: proto, DPort: ordinaryPort}
				in := ruleset.Packet{In: r.Dev, Src: podOf(theirs), Dst: podOf(ours), Proto: proto, DPort: ordinaryPort}
				for _, p := range f.Pods {
					port := out
					port.In = p.Veth
					try("what pods send to other nodes", ruleset.Ingress, port)
					try("what pods send to other nodes", ruleset.BridgePrerouting, port)
					break // of many alike
				}
				try("what pods send to other nodes", ruleset.Prerouting, out)
				out.Out = r.Dev
				try("what pods send to other nodes", ruleset.Forward, out)
				try("what pods of other nodes send", ruleset.Prerouting, in)
				in.Out = f.Bridge
				try("what pods of other nodes send", ruleset.Forward, in)
			}
		}
		if u := f.State.Underlay; u != nil && hasTunnel && tunnel.Local.IsValid() {
			for _, theirs := range peer.Addrs {
				if theirs.BitLen() != tunnel.Local.BitLen() {
					continue
				}
				port := uint16(tunnel.Port)
				in := ruleset.Packet{In: u.Dev, Src: theirs, Dst: tunnel.Local, Proto: "udp", DPort: port}
				try("VXLAN packets of other nodes", ruleset.Ingress, in)
				try("VXLAN packets of other nodes", ruleset.Prerouting, in)
				try("VXLAN packets of other nodes", ruleset.Input, in)
				out := ruleset.Packet{Out: u.Dev, Src: tunnel.Local, Dst: theirs, Proto: "udp", DPort: port}
				try("VXLAN packets to other nodes", ruleset.Output, out)
				try("VXLAN packets to other nodes", ruleset.Postrouting, out)
			}
		}
	}
	return found, rules.Unread
}

// ways follows a packet to a pod of each peer, and one from there to a pod of
// this host.
func ways(host *look.Host, f doctor.Facts, peers []trace.Peer) (to, back []doctor.Way) {
	for _, peer := range peers {
		for _, theirs := range peer.Subnets {
			t := trace.Follow(host, netip.Addr{}, podOf(theirs), "tcp", 0)
			to = append(to, doctor.Way{Peer: peer.Name, Trace: t})
			if pod, ok := host.AnyPod(podOf(theirs)); ok {
				back = append(back, doctor.Way{Peer: peer.Name, Trace: trace.Follow(host, podOf(theirs), pod.Addr, "tcp", 0)})
			}
		}
	}
	return to, back
}

// reached tries the peers, all at the same time.
func reached(ctx context.Context, host *look.Host, f doctor.Facts, peers []trace.Peer) []doctor.Reach {
	var tries []func() doctor.Reach
	n, _ := f.Network()
	tunnel, ok := host.Link(f.State.Device)
	for _, peer := range peers {
		switch {
		case ok && tunnel.Kind == "vxlan":
			tries = append(tries, func() doctor.Reach { return tryPeer(ctx, host, tunnel, peer) })
		case n.Backend.Type == subnet.HostGW && f.State.MTU > 0:
			for _, s := range peer.Subnets {
				for _, a := range peer.Addrs {
					if a.BitLen() == s.Addr().BitLen() { // it is the gateway to the subnet
						tries = append(tries, func() doctor.Reach { return tryPlain(ctx, peer.Name, a, f.State.MTU) })
					}
				}
			}
		}
	}
	list := make([]doctor.Reach, len(tries))
	var wait sync.WaitGroup
	for i, try := range tries {
		wait.Go(func() { list[i] = try() })
	}
	wait.Wait()
	return list
}

// tryPlain tries a peer that plain routes lead to.
func tryPlain(ctx context.Context, name string, a netip.Addr, mtu int) doctor.Reach {
	r := doctor.Reach{Peer: name, Target: reach.Target{Overlay: a, Underlay: a, MTU: mtu}}
	var err error
	if r.Sample, err = reach.Look(ctx, r.Target); err != nil {
		return doctor.Reach{Peer: name} // nothing can be said
	}
	if r.Verdict() == reach.Hole {
		r.Largest = reach.Largest(ctx, r.Target)
	}
	return r
}

// tryPeer tries one peer as tulled does, and then what says more of a fault.
func tryPeer(ctx context.Context, host *look.Host, tunnel trace.Link, peer trace.Peer) doctor.Reach {
	r := doctor.Reach{Peer: peer.Name, Port: tunnel.Port, Overhead: trace.Overhead(tunnel.Local)}
	r.Target = reach.Target{Overlay: subnet.Gateway(peer.Subnets[0]), MTU: tunnel.MTU}
	for _, a := range peer.Addrs {
		if a.BitLen() == tunnel.Local.BitLen() {
			r.Target.Underlay = a
		}
	}
	inside := slices.ContainsFunc(tunnel.Addrs, func(a netip.Prefix) bool {
		return a.Addr().BitLen() == r.Target.Overlay.BitLen() && !a.Addr().IsLinkLocalUnicast()
	})
	if !inside || !r.Target.Underlay.IsValid() {
		return r
	}
	var err error
	if r.Sample, err = reach.Look(ctx, r.Target); err != nil {
		return doctor.Reach{Peer: peer.Name} // nothing can be said
	}
	switch r.Verdict() {
	case reach.Blocked:
		r.Wrapped = wrapped(ctx, host, tunnel, r.Target)
	case reach.Hole:
		r.Largest = reach.Largest(ctx, r.Target)
	}
	return r
}

// wrapped tries a peer without the kernel's VXLAN.
func wrapped(ctx context.Context, host *look.Host, tunnel trace.Link, t reach.Target) reach.Outcome {
	n, ok := host.Neigh(tunnel.Name, t.Overlay)
	ours, err1 := net.ParseMAC(tunnel.MAC)
	theirs, err2 := net.ParseMAC(n.MAC)
	if !ok || err1 != nil || err2 != nil {
		return reach.Untried
	}
	o, err := reach.Wrapped(ctx, reach.Tunnel{VNI: tunnel.VNI, Port: tunnel.Port, Local: tunnel.Local, Remote: t.Underlay, MAC: ours, PeerMAC: theirs}, t.Overlay)
	if err != nil {
		return reach.Untried
	}
	return o
}
