package ruleset

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func fromNFT(t *testing.T, name string) Ruleset {
	t.Helper()
	chains, err := NFT([]byte(read(t, name)), func(string, string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	for i := range chains {
		if chains[i].Hook == Ingress {
			chains[i].Devs = []string{"eth0"}
		}
	}
	return Ruleset{Chains: chains}
}

// packet reads "src dst proto port in out mark", of which the end may be left out.
func packet(t *testing.T, text string) Packet {
	t.Helper()
	f := append(strings.Fields(text), "", "", "", "", "")
	p := Packet{Src: netip.MustParseAddr(f[0]), Dst: netip.MustParseAddr(f[1]), Proto: f[2], In: f[4], Out: f[5]}
	if f[3] != "" {
		port, _ := strings.CutPrefix(f[3], ":")
		for _, digit := range port {
			p.DPort = p.DPort*10 + uint16(digit-'0')
		}
	}
	if f[6] == "marked" {
		p.Mark = 0x4000
	}
	return p
}

// summary is the end of a packet's way in a few words.
func summary(p Path) string {
	if p.By != nil {
		return string(p.By.Verdict) + " by " + p.By.Chain + ": " + p.By.Rule
	}
	if p.Translated != nil {
		return string(p.Translated.Verdict) + " " + p.Translated.Target + " by " + p.Translated.Chain
	}
	for _, s := range p.Steps {
		if !s.Sure && s.Verdict.Drops() {
			return "may be dropped by " + s.Chain
		}
	}
	return "through"
}

func TestThrough(t *testing.T) {
	t.Parallel()
	kube := Ruleset{Chains: IPTables("iptables", read(t, "kube-proxy.iptables"))}
	mine, guard, host := fromNFT(t, "rules.json"), fromNFT(t, "guard.json"), fromNFT(t, "firewall.json")
	for _, tt := range []struct {
		name  string
		rules Ruleset
		hook  Hook
		in    string
		want  string
	}{
		{"our jump accepts before the policy drops", kube, Forward, "10.244.193.2 10.244.57.2 tcp :80 cni0 tulle.1", "through"},
		{"what is not ours meets the policy, unless a limit lets it pass", kube, Forward, "10.9.0.1 10.9.0.2 tcp :80 a b", "may be dropped by FORWARD"},
		{"a user's chain rejects before us", kube, Forward, "10.244.9.2 10.244.57.2 tcp :80 cni0 tulle.1", "reject by DOCKER-USER: -A DOCKER-USER -s 10.244.9.0/24 -j REJECT --reject-with icmp-port-unreachable"},
		{"VXLAN dropped at the input", kube, Input, "192.0.2.12 192.0.2.11 udp :8472 eth0", "drop by INPUT: -A INPUT -i eth+ -p udp -m udp --dport 8472 -j DROP"},
		{"another port", kube, Input, "192.0.2.12 192.0.2.11 udp :53 eth0", "through"},
		{"another device", kube, Input, "192.0.2.12 192.0.2.11 udp :8472 wlan0", "through"},
		{"a service of two endpoints: the last is the sure one", kube, Prerouting, "10.244.193.2 10.96.0.80 tcp :80 cni0", "through"},
		{"no service", kube, Prerouting, "10.244.193.2 10.96.0.81 tcp :80 cni0", "through"},
		{"pod to pod keeps its source", kube, Postrouting, "10.244.193.2 10.244.57.2 tcp :80 cni0 tulle.1", "through"},
		{"pod to the world is masqueraded", kube, Postrouting, "10.244.193.2 198.51.100.1 tcp :80 cni0 eth0", "masquerade  by TULLE-POSTROUTING"},
		{"what kube-proxy marked is its own", kube, Postrouting, "192.0.2.99 10.244.57.2 tcp :80 eth0 tulle.1 marked", "masquerade  by KUBE-POSTROUTING"},
		{"rules of IPv4 say nothing of IPv6", kube, Forward, "fd42::1 fd42::2 tcp :80 cni0 tulle.1", "through"},

		{"nft: new meets the policy", mine, Forward, "192.0.2.1 10.9.9.9 tcp :25 eth0 eth1", "drop by f: policy drop"},
		{"nft: a set, a port in a set, a device by the beginning of its name", mine, Forward, "10.5.5.5 192.0.2.1 tcp :443 cni0 eth1", "through"},
		{"nft: a port in a range", mine, Forward, "1.2.3.4 192.0.2.1 tcp :1500 cni0 eth1", "through"},
		{"nft: a port out of the range", mine, Forward, "1.2.3.4 192.0.2.1 tcp :2500 cni0 eth1", "drop by f: policy drop"},
		{"nft: a mark", mine, Forward, "192.0.2.9 192.0.2.1 tcp :2500 eth0 eth1 marked", "through"},
		{"nft: a pair", mine, Forward, "1.2.3.4 192.0.2.1 tcp :80 eth0 eth1", "drop by f: ip saddr . tcp dport { 1.2.3.4 . 80 } drop"},
		{"nft: a protocol", mine, Forward, "192.0.2.9 192.0.2.1 udp :80 eth0 eth1", "reject by f: meta l4proto udp reject"},
		{"nft: a jump for IPv6", mine, Forward, "fd42::1 fd42::2 tcp :80 eth0 eth1", "drop by g: drop"},
		{"nft: a range of addresses", mine, Forward, "192.0.2.9 10.1.0.5 tcp :80 eth0 eth1", "through"},
		{"nft: an address out of the range", mine, Forward, "192.0.2.9 10.1.0.10 tcp :80 eth0 eth1", "drop by f: policy drop"},
		{"nft: a limit is not sure", mine, Forward, "192.0.2.9 10.3.0.10 tcp :80 eth0 eth1", "may be dropped by f"},
		{"nft: any device but one", mine, Forward, "192.0.2.9 10.2.0.1 tcp :80 eth0 eth1", "through"},
		{"nft: that one device", mine, Forward, "192.0.2.9 10.2.0.1 tcp :80 eth1 eth0", "drop by f: policy drop"},
		{"nft: translation", mine, Prerouting, "10.5.5.5 10.96.0.1 tcp :443 cni0", "dnat 192.0.2.1:6443 by p"},
		{"nft: a map of services", mine, Prerouting, "10.5.5.5 10.96.0.10 udp :53 cni0", "dnat 10.244.1.2:53 by dns"},
		{"nft: not in the map of services", mine, Prerouting, "10.5.5.5 10.96.0.11 udp :53 cni0", "through"},
		{"nft: masquerade", mine, Postrouting, "10.5.5.5 10.96.0.11 udp :53 cni0 eth0", "masquerade  by q"},

		{"the guard lets a peer in, as far as that can be known", guard, Input, "192.0.2.11 192.0.2.12 udp :8472 eth0", "may be dropped by vxlan"},
		{"the guard has nothing to say of other ports", guard, Input, "192.0.2.11 192.0.2.12 udp :53 eth0", "through"},

		{"nft: rules for another protocol, and then the policy", host, Input, "192.0.2.12 192.0.2.11 udp :8472 eth0", "drop by input: policy drop"},
		{"nft: the same over IPv6", host, Input, "fd00::12 fd00::11 udp :8472 eth0", "drop by input: policy drop"},
		{"nft: a protocol by the header of IPv4", host, Input, "192.0.2.12 192.0.2.11 icmp :0 eth0", "through"},
		{"nft: a protocol by the header of IPv6", host, Input, "fd00::12 fd00::11 icmp :0 eth0", "through"},
		{"nft: a map of verdicts", host, Input, "192.0.2.12 192.0.2.11 udp :123 eth0", "drop by input: udp dport vmap { 53 : accept, 123 : drop }"},
		{"nft: flags of another protocol", host, Input, "192.0.2.12 192.0.2.11 udp :53 eth0", "through"},
		{"nft: any port but these, of another protocol", host, Forward, "10.244.1.2 10.244.2.2 udp :80 cni0 tulle.1", "through"},
		{"nft: any port but these", host, Forward, "10.244.1.2 10.244.2.2 tcp :81 cni0 tulle.1", "reject by forward: tcp dport != { 22, 80 } reject"},
		{"nft: any address of the other family but these", host, Forward, "10.244.1.2 10.244.2.2 tcp :80 cni0 tulle.1", "through"},
		{"nft: any address but these", host, Forward, "fd43::1 fd42::2 tcp :80 cni0 tulle.1", "drop by forward: ip6 saddr != fd42::/16 drop"},
		{"nft: a packet whose address was not translated", host, Forward, "10.245.1.2 10.9.2.2 tcp :80 cni0 tulle.1", "drop by forward: ip saddr != 10.244.0.0/16 ip daddr 10.9.0.0/16 drop"},
		{"nft: what a device drops before all others", host, Ingress, "192.0.2.12 192.0.2.11 udp :8472 eth0", "drop by eth0: udp dport 8472 drop"},
		{"nft: another device", host, Ingress, "192.0.2.12 192.0.2.11 udp :8472 eth1", "through"},
		{"nft: what a bridge drops", host, BridgePrerouting, "10.244.1.2 10.244.2.2 tcp :80 veth1", "drop by in: ip saddr 10.244.0.0/16 drop"},
		{"nft: what a bridge lets pass", host, BridgePrerouting, "fd42::1 fd42::2 tcp :80 veth1", "through"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := tt.rules.Through(tt.hook, packet(t, tt.in))
			if got := summary(path); got != tt.want {
				t.Errorf("%s, want %s; steps: %+v", got, tt.want, path.Steps)
			}
		})
	}
}

// TestTranslated: what a rule asks of a packet whose destination was translated.
func TestTranslated(t *testing.T) {
	t.Parallel()
	p := packet(t, "10.245.1.2 10.9.2.2 tcp :80 cni0 tulle.1")
	p.Translated = true
	if path := fromNFT(t, "firewall.json").Through(Forward, p); path.By != nil || len(path.Steps) == 0 || !path.Steps[0].Sure {
		t.Errorf("nft: %+v, want it accepted", path)
	}
	chains := IPTables("iptables", "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\n")
	if path := (Ruleset{Chains: chains}).Through(Forward, p); path.By != nil {
		t.Errorf("iptables: %+v, want it accepted", path)
	}
}

// TestAnyProtocol: where the protocol is not told, a rule for one may match.
func TestAnyProtocol(t *testing.T) {
	t.Parallel()
	chains := IPTables("iptables", "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -m tcp --dport 25 -j DROP\n")
	if got, want := summary(Ruleset{Chains: chains}.Through(Forward, packet(t, "10.244.1.2 10.244.2.2"))), "may be dropped by FORWARD"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestDevices: those of a chain that nft(8) does not tell in JSON.
func TestDevices(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\t\ttype filter hook ingress device \"eth0\" priority filter; policy accept;": "eth0",
		"\t\ttype filter hook ingress devices = { eth0, \"eth1\" } priority filter;":   "eth0 eth1",
		"\t\ttype filter hook input priority filter; policy accept;":                   "",
		"\t\tiifname \"device\" drop":                                                  "",
	} {
		if got := strings.Join(Devices(text), " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestServiceOfTwo: both endpoints are in the steps, though none is sure.
func TestServiceOfTwo(t *testing.T) {
	t.Parallel()
	kube := Ruleset{Chains: IPTables("iptables", read(t, "kube-proxy.iptables"))}
	var targets []string
	for _, s := range kube.Through(Prerouting, packet(t, "10.244.193.2 10.96.0.80 tcp :80 cni0")).Steps {
		if s.Verdict == DNAT {
			targets = append(targets, s.Target)
		}
	}
	if got, want := strings.Join(targets, " "), "10.244.1.2:80 10.244.2.2:80"; got != want {
		t.Errorf("endpoints %s, want %s", got, want)
	}
}

func TestCommandsThatTakeAway(t *testing.T) {
	t.Parallel()
	kube := Ruleset{Chains: IPTables("iptables", read(t, "kube-proxy.iptables"))}
	for _, tt := range []struct {
		rules Ruleset
		hook  Hook
		in    string
		want  string
	}{
		{kube, Input, "192.0.2.12 192.0.2.11 udp :8472 eth0", "iptables -t filter -D INPUT -i eth+ -p udp -m udp --dport 8472 -j DROP"},
		{fromNFT(t, "firewall.json"), Input, "192.0.2.12 192.0.2.11 udp :123 eth0", "nft --handle list chain inet host input, and replace the rule of handle 15 by one without that verdict"},
		{fromNFT(t, "rules.json"), Forward, "192.0.2.9 10.9.0.1 tcp :80 eth0 eth1", "nft chain inet t f '{ policy accept; }'"},
		{fromNFT(t, "rules.json"), Forward, "192.0.2.9 192.0.2.1 udp :80 eth0 eth1", "nft delete rule inet t f handle 13"},
	} {
		path := tt.rules.Through(tt.hook, packet(t, tt.in))
		if path.By == nil || path.By.Delete != tt.want {
			t.Errorf("%s: %+v, want %s", tt.in, path.By, tt.want)
		}
	}
}

func FuzzIPTables(f *testing.F) {
	text, err := os.ReadFile("testdata/kube-proxy.iptables")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("*filter\n:FORWARD DROP [0:0]\n-A FORWARD\n-A FORWARD -j\n-A FORWARD -s")
	f.Fuzz(func(_ *testing.T, text string) {
		r := Ruleset{Chains: IPTables("iptables", text)}
		r.Through(Forward, Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: "tcp"})
	})
}

func FuzzNFT(f *testing.F) {
	for _, name := range []string{"rules.json", "guard.json", "firewall.json"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		chains, err := NFT(text, func(string, string) bool { return false })
		if err == nil {
			Ruleset{Chains: chains}.Through(Forward, Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: "tcp"})
		}
	})
}
