package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"tulle/subnet"
)

// kubeProxyTable is what kube-proxy in nftables mode makes for these services, in
// the words of nft(8), with the chains, sets, maps and priorities that it has. Pods
// are those with an address in cluster; node is the address for node ports, if there
// is one.
func kubeProxyTable(cluster netip.Prefix, node netip.Addr, services []service) string {
	f := subnet.FamilyOf(cluster.Addr())
	ip, addr := [2]string{"ip", "ip6"}[f], [2]string{"ipv4_addr", "ipv6_addr"}[f]
	var clusterIPs, serviceIPs, nodePorts []string
	var chains strings.Builder
	chain := func(name string, rules ...string) {
		fmt.Fprintf(&chains, "\tchain %s {\n\t\t%s\n\t}\n", name, strings.Join(rules, "\n\t\t"))
	}
	for _, s := range services {
		hash := strings.TrimPrefix(s.chain(""), "KUBE-")
		name := hash[:8] + "-" + strings.ReplaceAll(s.name, ":", "/tcp/")
		svc, ext, end := "service-"+name, "external-"+name, "endpoint-"+name
		clusterIPs = append(clusterIPs, s.addr.Addr().String())
		serviceIPs = append(serviceIPs, fmt.Sprintf("%s . tcp . %d : goto %s", s.addr.Addr(), s.addr.Port(), svc))
		chain(end,
			fmt.Sprintf("%s saddr %s jump mark-for-masquerade", ip, s.endpoint.Addr()),
			fmt.Sprintf("meta l4proto tcp dnat to %s", s.endpoint))
		chain(svc,
			fmt.Sprintf("%s daddr %s tcp dport %d %s saddr != %s jump mark-for-masquerade", ip, s.addr.Addr(), s.addr.Port(), ip, cluster),
			fmt.Sprintf("numgen random mod 1 vmap { 0 : goto %s }", end))
		if s.nodePort != 0 {
			nodePorts = append(nodePorts, fmt.Sprintf("tcp . %d : goto %s", s.nodePort, ext))
			chain(ext, "jump mark-for-masquerade", "goto "+svc)
		}
	}
	var nodes []string
	if node.IsValid() {
		nodes = append(nodes, node.String())
	}
	elements := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return "elements = { " + strings.Join(list, ", ") + " }"
	}
	return fmt.Sprintf(`table %[1]s kube-proxy {
	comment "rules for kube-proxy"
	set cluster-ips {
		type %[2]s
		%[3]s
	}
	set nodeport-ips {
		type %[2]s
		%[4]s
	}
	map service-ips {
		type %[2]s . inet_proto . inet_service : verdict
		%[5]s
	}
	map service-nodeports {
		type inet_proto . inet_service : verdict
		%[6]s
	}
	chain mark-for-masquerade {
		meta mark set meta mark or 0x4000
	}
	chain masquerading {
		meta mark and 0x4000 == 0 return
		meta mark set meta mark xor 0x4000
		masquerade fully-random
	}
	chain cluster-ips-check {
		%[1]s daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
	}
%[7]s	chain services {
		%[1]s daddr . meta l4proto . th dport vmap @service-ips
		%[1]s daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}
	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		ct state new jump cluster-ips-check
	}
	chain filter-output-post-dnat {
		type filter hook output priority -90; policy accept;
		ct state new jump cluster-ips-check
	}
	chain nat-prerouting {
		type nat hook prerouting priority -100; policy accept;
		jump services
	}
	chain nat-output {
		type nat hook output priority -100; policy accept;
		jump services
	}
	chain nat-postrouting {
		type nat hook postrouting priority 100; policy accept;
		jump masquerading
	}
}
`, ip, addr, elements(clusterIPs), elements(nodes), elements(serviceIPs), elements(nodePorts), chains.String())
}
