// Package firewall says what a host must let through for pods to be reached,
// and what leaves the cluster under the node's own address. It is pure.
//
// Each rule is described once, as a backend.Rule. Where it stands depends on the
// host: see place.
package firewall

import (
	"net/netip"

	"tulle/backend"
	"tulle/subnet"
)

// Desired is the sysctls, chains and jumps for every Family of the Network, and
// those for the underlay's.
func Desired(in backend.Input) backend.State {
	s := backend.State{}
	for _, f := range subnet.Families {
		cluster, pods := in.Network.Pools[f].Prefix, in.Self.Subnets[f]
		if !cluster.IsValid() || !pods.IsValid() {
			continue
		}
		s.Add(sysctls[f][:]...)
		if f == subnet.IPv6 {
			for _, dev := range in.Advertised {
				s.Add(backend.Sysctl{Name: "net/ipv6/conf/" + dev + "/accept_ra", Value: "2", Optional: true})
			}
		}
		s.Add(forward.rows(in, f, forwardRules(cluster)...)...)
		if in.Masq {
			s.Add(postrouting.rows(in, f, masqRules(cluster, pods, in.Network.NonMasquerade)...)...)
		}
	}
	if port, own := in.Network.Backend.Port, in.Underlay.Addr(); port != 0 && own.IsValid() {
		f, host := subnet.FamilyOf(own), netip.PrefixFrom(own, own.BitLen())
		received, sent := backend.Rule{Dst: host, Port: uint16(port)}, backend.Rule{Src: host, Port: uint16(port)}
		if in.Guard != backend.GuardOff {
			s.Add(admit.rows(in, f, received)...) // what comes this far is of a peer
		}
		s.Add(dismiss.rows(in, f, sent)...)
		received.Verdict, sent.Verdict = backend.NoTrack, backend.NoTrack
		s.Add(arriving.rows(in, f, received)...)
		s.Add(leaving.rows(in, f, sent)...)
	}
	return s
}

// Jumps are all the jumps that could be ours on a host, whatever it is configured
// to. Chains that are ours without one stand in Table.
func Jumps(in backend.Input) []backend.Jump {
	used := [2]bool{}
	for _, f := range subnet.Families {
		used[f] = in.Network.Pools[f].IsValid()
	}
	if own := in.Underlay.Addr(); own.IsValid() {
		used[subnet.FamilyOf(own)] = true
	}
	var jumps []backend.Jump
	for _, f := range subnet.Families {
		for _, p := range places {
			if used[f] {
				jumps = append(jumps, p.jumps(in.Scope, f)...)
			}
		}
	}
	return jumps
}

// A packet from a pod by way of a virtual service address to another pod on the
// same bridge is only translated back if the bridge shows its packets to
// netfilter.
var sysctls = [2][2]backend.Entry{
	subnet.IPv4: {
		backend.Sysctl{Name: "net/ipv4/ip_forward", Value: "1"},
		backend.Sysctl{Name: "net/bridge/bridge-nf-call-iptables", Value: "1", Optional: true},
	},
	subnet.IPv6: {
		backend.Sysctl{Name: backend.IPv6Forwarding, Value: "1"},
		backend.Sysctl{Name: "net/bridge/bridge-nf-call-ip6tables", Value: "1", Optional: true},
	},
}

func forwardRules(cluster netip.Prefix) []backend.Rule {
	return []backend.Rule{
		{Src: cluster, Verdict: backend.Accept},
		{Dst: cluster, Verdict: backend.Accept},
	}
}

// markMasq is the mark of kube-proxy, in each of its modes, on what it is going to
// masquerade.
const markMasq = 0x4000

var multicast = [2]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")}

func masqRules(cluster, pods netip.Prefix, keep subnet.Prefixes) []backend.Rule {
	f := subnet.FamilyOf(cluster.Addr())
	rules := []backend.Rule{
		// It will be masqueraded in a chain of kube-proxy's own.
		{Mark: markMasq, Verdict: backend.Return},
		// Pods see each other's addresses, and whoever comes to our pods keeps his.
		{Src: pods, Dst: cluster, Verdict: backend.Return},
		{Dst: pods, Verdict: backend.Return},
	}
	for p := range keep.All() {
		if subnet.FamilyOf(p.Addr()) == f {
			rules = append(rules, backend.Rule{Src: cluster, Dst: p, Verdict: backend.Return})
		}
	}
	return append(rules,
		// What leaves the cluster has the node's address.
		backend.Rule{Src: cluster, Dst: multicast[f], NotDst: true, Verdict: backend.Masquerade},
		// A stranger to the cluster that comes to another node's pods by way of
		// this node needs the answers to take the same way back.
		backend.Rule{Src: cluster, NotSrc: true, Dst: cluster, Verdict: backend.Masquerade},
	)
}
