package main

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"tulle/internal/flags"
	"tulle/internal/status"
	"tulle/internal/trace"
	"tulle/subnet"
)

// places are where this host keeps what its tulled knows.
type places struct {
	tulled     tulled
	stateDir   string
	subnetFile string
}

func (p *places) register(fs *pflag.FlagSet) {
	p.tulled.register(fs)
	fs.StringVar(&p.stateDir, "state-dir", flags.StateDir, "`folder` of tulled for what is kept over restarts")
	fs.StringVar(&p.subnetFile, "subnet-file", flags.SubnetFile, "`file` of tulled that tells of this host's subnet")
}

// known is what this host knows of its network, from whatever tells of it.
type known struct {
	state    *status.Node // nil: tulled does not answer
	stateErr error
	memory   subnet.Memory
	memErr   error // why memory is empty
	file     subnet.File
	fileErr  error // why file is empty
}

// answerTime is how long tulled may take to answer one that goes on without it.
const answerTime = 5 * time.Second

// read asks tulled, and reads the files that it leaves.
func (p places) read(ctx context.Context) known {
	var k known
	var n status.Node
	if k.stateErr = ask(ctx, p.tulled.addr, statePath, answerTime, &n); k.stateErr == nil {
		k.state = &n
	}
	k.memory, k.memErr = subnet.ReadMemory(p.stateDir + "/state.json")
	k.file, k.fileErr = subnet.ReadFile(p.subnetFile)
	return k
}

// networks are the prefixes of all pods.
func (k known) networks() []netip.Prefix {
	if k.state != nil && k.state.Network != "" {
		if n, err := subnet.ParseNetwork([]byte(k.state.Network)); err == nil {
			return prefixesOf(n)
		}
	}
	if k.memErr == nil {
		return prefixesOf(k.memory.Network)
	}
	var list []netip.Prefix
	for _, p := range k.file.Networks {
		if p.IsValid() {
			list = append(list, p)
		}
	}
	return list
}

func prefixesOf(n subnet.Network) []netip.Prefix {
	var list []netip.Prefix
	for _, pool := range n.Pools {
		if pool.Prefix.IsValid() {
			list = append(list, pool.Prefix)
		}
	}
	return list
}

// peers are the other nodes.
func (k known) peers() []trace.Peer {
	var list []trace.Peer
	if k.state != nil && k.state.Lease != nil {
		for _, p := range k.state.Peers {
			peer := trace.Peer{Name: p.Node}
			for _, text := range p.Subnets {
				if s, err := netip.ParsePrefix(text); err == nil {
					peer.Subnets = append(peer.Subnets, s)
				}
			}
			texts := append([]string{p.Address}, p.Addresses...)
			if p.VTEP != nil {
				texts = append(texts, p.VTEP.Address)
			}
			for _, text := range texts {
				if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(peer.Addrs, a) {
					peer.Addrs = append(peer.Addrs, a)
				}
			}
			list = append(list, peer)
		}
		return list
	}
	if k.memErr != nil {
		return nil
	}
	for r := range k.memory.Leases.All() {
		if r.Key() == k.memory.Self.Key() {
			continue
		}
		peer := trace.Peer{Name: r.Node}
		for f := range r.Subnets {
			if r.Subnets[f].IsValid() {
				peer.Subnets = append(peer.Subnets, r.Subnets[f])
			}
			if r.Addrs[f].IsValid() {
				peer.Addrs = append(peer.Addrs, r.Addrs[f])
			}
		}
		list = append(list, peer)
	}
	return list
}
