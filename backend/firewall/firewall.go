// Package firewall says what a host must let through for pods to be reached,
// and what leaves the cluster under the node's own address. It is pure.
package firewall

import (
	"net/netip"
	"strings"

	"tulle/backend"
	"tulle/subnet"
)

// Chains of ours. The rules of the host lead to them by one jump each.
const (
	postrouting = "TULLE-POSTROUTING"
	forward     = "TULLE-FORWARD"
)

// Desired is the sysctls, chains and jumps for every Family of the Network.
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
		s.Add(chain(f, "filter", "FORWARD", scoped(forward, in.Scope), forwardRules(cluster))...)
		if in.Masq {
			s.Add(chain(f, "nat", "POSTROUTING", scoped(postrouting, in.Scope), masqRules(cluster, pods))...)
		}
	}
	return s
}

// scoped is the name of a chain for one of several networks on a host. Names of
// chains have up to 28 characters.
func scoped(chain, scope string) string {
	if scope == "" {
		return chain
	}
	return chain + "-" + scope
}

// Jumps are all the jumps that could be ours in a Network, masquerading or not.
func Jumps(n subnet.Network, scope string) []backend.Jump {
	var jumps []backend.Jump
	for _, f := range subnet.Families {
		if n.Pools[f].IsValid() {
			jumps = append(jumps,
				backend.Jump{Family: f, Table: "filter", From: "FORWARD", To: scoped(forward, scope)},
				backend.Jump{Family: f, Table: "nat", From: "POSTROUTING", To: scoped(postrouting, scope)})
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

func chain(f subnet.Family, table, from, name string, rules []string) []backend.Entry {
	return []backend.Entry{
		backend.Chain{Family: f, Table: table, Name: name, Rules: strings.Join(rules, "\n")},
		backend.Jump{Family: f, Table: table, From: from, To: name},
	}
}

func forwardRules(cluster netip.Prefix) []string {
	return []string{
		"-s " + cluster.String() + " -j ACCEPT",
		"-d " + cluster.String() + " -j ACCEPT",
	}
}

func masqRules(cluster, pods netip.Prefix) []string {
	c, p, multicast := cluster.String(), pods.String(), "224.0.0.0/4"
	if cluster.Addr().Is6() {
		multicast = "ff00::/8"
	}
	return []string{
		// kube-proxy marked the packet: it will masquerade it, in a chain of its own.
		"-m mark --mark 0x4000/0x4000 -j RETURN",
		// Pods see each other's addresses, and whoever comes to our pods keeps his.
		"-s " + p + " -d " + c + " -j RETURN",
		"-d " + p + " -j RETURN",
		// What leaves the cluster has the node's address.
		"-s " + c + " ! -d " + multicast + " -j MASQUERADE --random-fully",
		// A stranger to the cluster that comes to another node's pods by way of
		// this node needs the answers to take the same way back.
		"! -s " + c + " -d " + c + " -j MASQUERADE --random-fully",
	}
}
