package lab

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"strings"
)

// service is a virtual address with one pod behind it.
type service struct {
	name     string         // namespace/name:port, as kube-proxy calls it
	addr     netip.AddrPort // the cluster IP
	nodePort int            // 0: none
	endpoint netip.AddrPort
}

// Chains are named by a hash of what they are for, as in kube-proxy, so that
// names have one length and differ between services.
func (s service) chain(prefix string, parts ...string) string {
	sum := sha256.Sum256([]byte(s.name + "tcp" + strings.Join(parts, "")))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// kubeProxyRules is what kube-proxy in iptables mode feeds to
// `iptables-restore --noflush` for these services, word for word but for the
// order of lines. Pods are those with an address in cluster.
func kubeProxyRules(cluster netip.Prefix, services []service) string {
	chains := []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"}
	rules := []string{
		"-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN",
		"-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000",
		`-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		"-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000",
	}
	rule := func(format string, args ...any) { rules = append(rules, fmt.Sprintf(format, args...)) }
	for _, s := range services {
		svc, ext := s.chain("KUBE-SVC-"), s.chain("KUBE-EXT-")
		sep := s.chain("KUBE-SEP-", s.endpoint.String())
		chains = append(chains, svc, sep)
		to := fmt.Sprintf("-m tcp -p tcp -d %s --dport %d", s.addr.Addr(), s.addr.Port())

		rule(`-A KUBE-SERVICES -m comment --comment "%s cluster IP" %s -j %s`, s.name, to, svc)
		rule(`-A %s -m comment --comment "%s cluster IP" %s ! -s %s -j KUBE-MARK-MASQ`, svc, s.name, to, cluster)
		rule(`-A %s -m comment --comment "%s -> %s" -j %s`, svc, s.name, s.endpoint, sep)
		rule(`-A %s -m comment --comment %s -s %s -j KUBE-MARK-MASQ`, sep, s.name, s.endpoint.Addr())
		rule(`-A %s -m comment --comment %s -m tcp -p tcp -j DNAT --to-destination %s`, sep, s.name, s.endpoint)
		if s.nodePort != 0 {
			chains = append(chains, ext)
			rule(`-A KUBE-NODEPORTS -m comment --comment %s -m tcp -p tcp --dport %d -j %s`, s.name, s.nodePort, ext)
			rule(`-A %s -m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, ext, s.name)
			rule(`-A %s -j %s`, ext, svc)
		}
	}
	rule(`-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`)

	var b strings.Builder
	b.WriteString("*filter\n:KUBE-FORWARD - [0:0]\n")
	b.WriteString("-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n")
	b.WriteString(`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000 -j ACCEPT` + "\n")
	b.WriteString(`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT` + "\n")
	b.WriteString("COMMIT\n*nat\n")
	for _, c := range chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", c)
	}
	b.WriteString(strings.Join(rules, "\n") + "\nCOMMIT\n")
	return b.String()
}

// kubeProxyJumps lead from the kernel's chains to kube-proxy's. Each one is
// inserted first in its chain when it is not there, as kube-proxy does.
var kubeProxyJumps = []struct{ table, chain, to, comment string }{
	{"nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"},
	{"nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"},
	{"nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules"},
	{"filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"},
}
