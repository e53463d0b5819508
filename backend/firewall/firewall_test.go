package firewall_test

import (
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/subnet"
)

func TestDesired(t *testing.T) {
	t.Parallel()
	var four backend.Input
	four.Network.Pools[subnet.IPv4].Prefix = netip.MustParsePrefix("10.244.0.0/16")
	four.Self.Subnets[subnet.IPv4] = netip.MustParsePrefix("10.244.1.0/24")
	both := four
	both.Network.Pools[subnet.IPv6].Prefix = netip.MustParsePrefix("fd42::/48")
	both.Self.Subnets[subnet.IPv6] = netip.MustParsePrefix("fd42:0:0:1::/64")
	advertised := both
	advertised.Advertised = []string{"eth0"}
	masq := both
	masq.Masq = true
	const settings4 = "sysctl net/bridge/bridge-nf-call-iptables=1\nsysctl net/ipv4/ip_forward=1\n"
	const settings6 = "sysctl net/bridge/bridge-nf-call-ip6tables=1\n" + "sysctl net/bridge/bridge-nf-call-iptables=1\n" +
		"sysctl net/ipv4/ip_forward=1\nsysctl net/ipv6/conf/all/forwarding=1\n"
	const forward4 = "iptables filter TULLE-FORWARD: -s 10.244.0.0/16 -j ACCEPT\niptables filter TULLE-FORWARD: -d 10.244.0.0/16 -j ACCEPT\n"
	const forward6 = "ip6tables filter TULLE-FORWARD: -s fd42::/48 -j ACCEPT\nip6tables filter TULLE-FORWARD: -d fd42::/48 -j ACCEPT\n"
	for _, test := range []struct {
		name string
		in   backend.Input
		want string
	}{
		{"nothing", backend.Input{}, ""},
		{"IPv4", four, settings4 + forward4 + "jump iptables filter FORWARD to TULLE-FORWARD\n"},
		{"both families", both, settings6 + forward6 + forward4 +
			"jump ip6tables filter FORWARD to TULLE-FORWARD\njump iptables filter FORWARD to TULLE-FORWARD\n"},
		// Forwarding comes last, when the device is to follow routers nevertheless.
		{"a device that follows router advertisements", advertised, "sysctl net/bridge/bridge-nf-call-ip6tables=1\n" +
			"sysctl net/bridge/bridge-nf-call-iptables=1\nsysctl net/ipv4/ip_forward=1\nsysctl net/ipv6/conf/eth0/accept_ra=2\n" +
			"sysctl net/ipv6/conf/all/forwarding=1\n" + forward6 + forward4 +
			"jump ip6tables filter FORWARD to TULLE-FORWARD\njump iptables filter FORWARD to TULLE-FORWARD\n"},
		{"masquerade", masq, settings6 + forward6 + `ip6tables nat TULLE-POSTROUTING: -m mark --mark 0x4000/0x4000 -j RETURN
ip6tables nat TULLE-POSTROUTING: -s fd42:0:0:1::/64 -d fd42::/48 -j RETURN
ip6tables nat TULLE-POSTROUTING: -d fd42:0:0:1::/64 -j RETURN
ip6tables nat TULLE-POSTROUTING: -s fd42::/48 ! -d ff00::/8 -j MASQUERADE --random-fully
ip6tables nat TULLE-POSTROUTING: ! -s fd42::/48 -d fd42::/48 -j MASQUERADE --random-fully
` + forward4 + `iptables nat TULLE-POSTROUTING: -m mark --mark 0x4000/0x4000 -j RETURN
iptables nat TULLE-POSTROUTING: -s 10.244.1.0/24 -d 10.244.0.0/16 -j RETURN
iptables nat TULLE-POSTROUTING: -d 10.244.1.0/24 -j RETURN
iptables nat TULLE-POSTROUTING: -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
iptables nat TULLE-POSTROUTING: ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE --random-fully
jump ip6tables filter FORWARD to TULLE-FORWARD
jump ip6tables nat POSTROUTING to TULLE-POSTROUTING
jump iptables filter FORWARD to TULLE-FORWARD
jump iptables nat POSTROUTING to TULLE-POSTROUTING
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := text(firewall.Desired(test.in)); got != test.want {
				t.Errorf("Desired =\n%s\nwant\n%s", got, test.want)
			}
			owned := map[backend.Key]bool{}
			for _, j := range firewall.Jumps(test.in.Network, test.in.Scope) {
				owned[j.Key()] = true
			}
			for key := range firewall.Desired(test.in) {
				if key.Kind == backend.KindJump && !owned[key] {
					t.Errorf("Jumps does not tell of %s", key.Name)
				}
			}
		})
	}
}

// Two networks of one host have chains of their own, whose names are not too long
// for the kernel.
func TestScope(t *testing.T) {
	t.Parallel()
	var in backend.Input
	in.Network.Pools[subnet.IPv4].Prefix = netip.MustParsePrefix("10.244.0.0/16")
	in.Self.Subnets[subnet.IPv4] = netip.MustParsePrefix("10.244.1.0/24")
	in.Masq = true
	other := in
	other.Scope = "0a1b2c3d"
	ours := firewall.Desired(in)
	for key, e := range firewall.Desired(other) {
		if key.Kind != backend.KindSysctl && ours[key] != nil {
			t.Errorf("both networks have %s", e)
		}
		if c, ok := e.(backend.Chain); ok && len(c.Name) > 28 {
			t.Errorf("the name %s has %d characters, 28 are allowed", c.Name, len(c.Name))
		}
	}
	for _, j := range firewall.Jumps(other.Network, other.Scope) {
		if ours[j.Key()] != nil {
			t.Errorf("the second network could have %s, which is the first one's", j)
		}
	}
}

// text is the state with the rules of each chain.
func text(s backend.State) string {
	var b strings.Builder
	for _, e := range s.Sorted() {
		c, ok := e.(backend.Chain)
		if !ok {
			b.WriteString(e.String() + "\n")
			continue
		}
		for rule := range strings.SplitSeq(c.Rules, "\n") {
			b.WriteString(c.Key().Name + ": " + rule + "\n")
		}
	}
	return b.String()
}
