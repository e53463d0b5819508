package firewall_test

import (
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/internal/golden"
	"tulle/subnet"
)

func node(families ...subnet.Family) backend.Input {
	var in backend.Input
	for _, f := range families {
		in.Network.Pools[f].Prefix = [2]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd42::/48")}[f]
		in.Self.Subnets[f] = [2]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd42:0:0:1::/64")}[f]
	}
	return in
}

func TestDesired(t *testing.T) {
	t.Parallel()
	both := node(subnet.IPv4, subnet.IPv6)
	// Forwarding comes last, when the device is to follow routers nevertheless.
	advertised := both
	advertised.Advertised = []string{"eth0"}
	masq := both
	masq.Masq = true
	masq.Network.NonMasquerade = subnet.NewPrefixes(netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00:1::/32"))
	vxlan := node(subnet.IPv4)
	vxlan.Network.Backend.Port, vxlan.Guard = 8472, backend.GuardStrict
	vxlan.Underlay.Family = subnet.IPv6
	vxlan.Underlay.Addrs[subnet.IPv6] = netip.MustParseAddr("2001:db8::10")
	unguarded := vxlan
	unguarded.Guard = backend.GuardOff
	for _, test := range []struct {
		name string
		in   backend.Input
	}{
		{"nothing", backend.Input{}},
		{"IPv4", node(subnet.IPv4)},
		{"both families", both},
		{"a device that follows router advertisements", advertised},
		{"masquerade", masq},
		{"VXLAN over IPv6", vxlan},
		{"VXLAN without a guard", unguarded},
	} {
		for _, tool := range []backend.Tool{backend.IPTables, backend.NFTables} {
			name := test.name + " by " + tool.String()
			t.Run(name, func(t *testing.T) {
				in := test.in
				in.Firewall = tool
				golden.Check(t, strings.ReplaceAll(name, " ", "-")+".txt", text(firewall.Desired(in)))
				owned := map[backend.Key]bool{}
				for _, j := range firewall.Jumps(in) {
					owned[j.Key()] = true
					owned[backend.Chain{Tool: j.Tool, Family: j.Family, Table: j.Table, Name: j.To}.Key()] = true
				}
				for key, e := range firewall.Desired(in) {
					c, ok := e.(backend.Chain)
					if inTable := ok && c.Tool == backend.NFTables && c.Table == firewall.Table(in.Scope); backend.Firewall.Has(key.Kind) && !owned[key] && !inTable {
						t.Errorf("Jumps does not tell of %s", key.Name)
					}
				}
			})
		}
	}
}

// Two networks of one host have chains of their own, whose names are not too long
// for the kernel.
func TestScope(t *testing.T) {
	t.Parallel()
	for _, tool := range []backend.Tool{backend.IPTables, backend.NFTables} {
		in := node(subnet.IPv4, subnet.IPv6)
		in.Masq, in.Firewall, in.Network.Backend.Port, in.Guard = true, tool, 8472, backend.GuardStrict
		in.Underlay.Addrs[subnet.IPv4] = netip.MustParseAddr("192.0.2.10")
		other := in
		other.Scope = "0a1b2c3d"
		ours := firewall.Desired(in)
		for key, e := range firewall.Desired(other) {
			if key.Kind != backend.KindSysctl && ours[key] != nil {
				t.Errorf("both networks have %s", e)
			}
			if c, ok := e.(backend.Chain); ok && c.Tool != backend.Firewalld && len(c.Name) > 28 {
				t.Errorf("the name %s has %d characters, 28 are allowed", c.Name, len(c.Name))
			}
		}
		for _, j := range firewall.Jumps(other) {
			if ours[j.Key()] != nil {
				t.Errorf("the second network could have %s, which is the first one's", j)
			}
		}
	}
}

// text is the state with the rules of each chain.
func text(s backend.State) string {
	var b strings.Builder
	for _, e := range s.Sorted() {
		b.WriteString(e.String() + "\n")
		if c, ok := e.(backend.Chain); ok {
			for rule := range c.Rules.Lines() {
				b.WriteString("    " + rule + "\n")
			}
		}
	}
	return b.String()
}

func TestChoose(t *testing.T) {
	t.Parallel()
	usual := backend.Firewalls{NFTables: true, Program: true}
	for _, test := range []struct {
		name string
		with func(*backend.Firewalls)
		want backend.Tool
	}{
		{"nothing that would ask for either", func(*backend.Firewalls) {}, backend.NFTables},
		{"a kernel without nftables", func(f *backend.Firewalls) { f.NFTables = false }, backend.IPTables},
		{"no program", func(f *backend.Firewalls) { f.Program = false }, backend.NFTables},
		{"kube-proxy by iptables", func(f *backend.Firewalls) { f.KubeIPTables = true }, backend.IPTables},
		{"kube-proxy by iptables from a container, no program here", func(f *backend.Firewalls) { f.KubeIPTables, f.Program = true, false }, backend.NFTables},
		{"kube-proxy by nftables", func(f *backend.Firewalls) { f.KubeNFTables = true }, backend.NFTables},
		{"kube-proxy by nftables, which was in iptables mode before", func(f *backend.Firewalls) { f.KubeNFTables, f.KubeIPTables = true, true }, backend.NFTables},
		{"legacy program", func(f *backend.Firewalls) { f.ProgramLegacy = true }, backend.IPTables},
		{"legacy tables beside a newer program", func(f *backend.Firewalls) { f.LegacyRules = true }, backend.NFTables},
	} {
		f := usual
		test.with(&f)
		if got, why := firewall.Choose(f); got != test.want || why == "" {
			t.Errorf("%s: Choose = %s because %q, want %s", test.name, got, why, test.want)
		}
	}
}

func TestParseTool(t *testing.T) {
	t.Parallel()
	for _, tool := range []backend.Tool{backend.IPTables, backend.NFTables} {
		if got, err := firewall.ParseTool(tool.String()); err != nil || got != tool {
			t.Errorf("ParseTool(%q) = %v, %v", tool, got, err)
		}
	}
	for _, text := range []string{"", "nft", "firewalld", "iptables-legacy"} {
		if got, err := firewall.ParseTool(text); err == nil {
			t.Errorf("ParseTool(%q) = %v, want it refused", text, got)
		}
	}
}
