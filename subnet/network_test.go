package subnet

import (
	"math"
	"net/netip"
	"testing"
)

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       string // JSON, or the faults, a line each
	}{
		{"all that a beginner needs", `{"Network": "10.244.0.0/16"}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/16","SubnetLen":24,"SubnetMin":"10.244.1.0","SubnetMax":"10.244.255.0","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"keys in any case, unknown ones ignored", `{"NETWORK": "10.0.0.0/8", "subnetlen": 20, "backend": {"type": "VXLAN", "vni": 42}, "Comment": "x"}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.0.16.0","SubnetMax":"10.255.240.0","Backend":{"Type":"vxlan","VNI":42,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"of a key twice the last", `{"Network": "10.1.0.0/16", "NETWORK": "10.3.0.0/24", "network": "10.2.0.0/24", "Network": "10.244.0.0/24"}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/24","SubnetLen":26,"SubnetMin":"10.244.0.64","SubnetMax":"10.244.0.192","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"of a key in many cases the last", `{"network": "10.1.0.0/16", "Network": "10.3.0.0/24", "nETWORK": "10.2.0.0/24", "NETWORK": "10.244.0.0/24"}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/24","SubnetLen":26,"SubnetMin":"10.244.0.64","SubnetMax":"10.244.0.192","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"small network: subnets two bits longer", `{"Network": "10.244.0.0/24"}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/24","SubnetLen":26,"SubnetMin":"10.244.0.64","SubnetMax":"10.244.0.192","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"both families", `{"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd42::/48", "SubnetMin": "10.244.10.0", "SubnetMax": "10.244.99.0"}`,
			`{"EnableIPv4":true,"EnableIPv6":true,"Network":"10.244.0.0/16","SubnetLen":24,"SubnetMin":"10.244.10.0","SubnetMax":"10.244.99.0","IPv6Network":"fd42::/48","IPv6SubnetLen":64,"IPv6SubnetMin":"fd42:0:0:1::","IPv6SubnetMax":"fd42:0:0:ffff::","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"IPv6 alone", `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd42::/62"}`,
			`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd42::/62","IPv6SubnetLen":64,"IPv6SubnetMin":"fd42:0:0:1::","IPv6SubnetMax":"fd42:0:0:3::","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},

		{"plain routes", `{"Network": "10.244.0.0/16", "Backend": {"Type": "Host-GW"}}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/16","SubnetLen":24,"SubnetMin":"10.244.1.0","SubnetMax":"10.244.255.0","Backend":{"Type":"host-gw","MTU":0}}`},
		{"plain routes, with options of another backend that mean nothing", `{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw", "MTU": 1400, "VNI": 0, "Port": "x", "DirectRouting": true}}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/16","SubnetLen":24,"SubnetMin":"10.244.1.0","SubnetMax":"10.244.255.0","Backend":{"Type":"host-gw","MTU":1400}}`},
		{"sources kept towards some networks", `{"Network": "10.244.0.0/16", "NonMasquerade": ["192.168.0.0/16", "fd00:1::/32", "10.0.0.0/9", "192.168.0.0/16"]}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/16","SubnetLen":24,"SubnetMin":"10.244.1.0","SubnetMax":"10.244.255.0","NonMasquerade":["10.0.0.0/9","192.168.0.0/16","fd00:1::/32"],"Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},
		{"sources kept towards none", `{"Network": "10.244.0.0/24", "NonMasquerade": []}`,
			`{"EnableIPv4":true,"EnableIPv6":false,"Network":"10.244.0.0/24","SubnetLen":26,"SubnetMin":"10.244.0.64","SubnetMax":"10.244.0.192","Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":0,"GBP":false,"Learning":false,"DirectRouting":false,"IPv6Underlay":false}}`},

		{"not JSON", "{\n\"Network\": }", "configuration: line 2: not JSON: invalid character '}' looking for beginning of value"},
		{"no object", `[]`, `configuration: not a JSON object such as {"Network": "10.244.0.0/16"}`},
		{"nothing in it", `{}`, "Network: is missing; give the IPv4 prefix to share out among the nodes"},
		{"no family", `{"EnableIPv4": false, "Network": "10.244.0.0/16"}`, "EnableIPv4: is false and EnableIPv6 is not true: no family is left"},
		{"IPv6 without a prefix", `{"EnableIPv6": true, "Network": "10.244.0.0/16"}`, "IPv6Network: is missing; give the IPv6 prefix to share out among the nodes"},
		{"many faults at once", `{"Network": "10.244.0.7/16", "SubnetLen": 31, "Backend": {"Type": "udp", "VNI": 0, "Port": 70000, "MTU": 20, "GBP": "yes"}}`,
			"Network: 10.244.0.7/16 has bits set behind its prefix length; write 10.244.0.0/16\n" +
				"SubnetLen: 31 is too long: a subnet needs addresses for its bridge and pods; at most 30\n" +
				"Backend.MTU: 20 is out of range: 576 to 65485, or 0 for that of the underlay\n" +
				"Backend.Type: \"udp\" is not a backend of tulle; use \"vxlan\" or \"host-gw\"\n" +
				"Backend.GBP: \"yes\" is not true or false\n" +
				"Backend.VNI: 0 is not a VXLAN network identifier: 1 to 16777215\n" +
				"Backend.Port: 70000 is not a UDP port: 1 to 65535, or 0 for 8472"},
		{"plain routes, with faults", `{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw", "MTU": 70000}}`, "Backend.MTU: 70000 is out of range: 576 to 65485, or 0 for that of the underlay"},
		{"subnets as large as the network", `{"Network": "10.244.0.0/16", "SubnetLen": 17}`, "SubnetLen: 17 is too short for 10.244.0.0/16: at least 18, so that there are subnets to share out"},
		{"too small to share out", `{"Network": "10.244.0.0/29"}`, "Network: 10.244.0.0/29 is too small to share out: /28 or larger"},
		{"limits outside and not on a boundary", `{"Network": "10.244.0.0/16", "SubnetMin": "10.245.0.0", "SubnetMax": "10.244.9.3"}`,
			"SubnetMin: 10.245.0.0 is outside of 10.244.0.0/16\nSubnetMax: 10.244.9.3 is not the first address of a /24; write 10.244.9.0"},
		{"limits the wrong way round", `{"Network": "10.244.0.0/16", "SubnetMin": "10.244.9.0", "SubnetMax": "10.244.3.0"}`, "SubnetMax: 10.244.3.0 is before SubnetMin 10.244.9.0"},
		{"loopback", `{"Network": "127.0.0.0/8"}`, "Network: 127.0.0.0/8 overlaps 127.0.0.0/8, whose addresses pods can't have"},
		{"multicast", `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "ff00::/16"}`, "IPv6Network: ff00::/16 overlaps ff00::/8, whose addresses pods can't have"},
		{"all addresses", `{"Network": "0.0.0.0/0"}`, "Network: 0.0.0.0/0 overlaps 127.0.0.0/8, whose addresses pods can't have"},
		{"the other family's prefix", `{"Network": "fd42::/48"}`, "Network: fd42::/48 is not an IPv4 prefix"},
		{"wrong types", `{"Network": 7, "SubnetLen": "24"}`, "Network: 7 is not a prefix such as \"10.244.0.0/16\"\nSubnetLen: \"24\" is not a whole number"},
		{"networks to keep sources for are none", `{"Network": "10.244.0.0/16", "NonMasquerade": ["192.168.0.7/16", "lan", "::ffff:192.168.0.0/112", "0.0.0.0/0", ""]}`,
			"NonMasquerade: 192.168.0.7/16 has bits set behind its prefix length; write 192.168.0.0/16\n" +
				"NonMasquerade: \"lan\" is not a prefix such as \"192.168.0.0/16\"\n" +
				"NonMasquerade: ::ffff:192.168.0.0/112 is an IPv4 prefix in the form of IPv6; write it as \"192.168.0.0/16\"\n" +
				"NonMasquerade: 0.0.0.0/0 is every destination; give --ip-masq=false to tulled instead\n" +
				"NonMasquerade: \"\" is not a prefix such as \"192.168.0.0/16\""},
		{"networks to keep sources for are no list", `{"Network": "10.244.0.0/16", "NonMasquerade": "192.168.0.0/16"}`,
			"NonMasquerade: \"192.168.0.0/16\" is not a list of prefixes such as [\"192.168.0.0/16\"]"},
		{"backend of the wrong type", `{"Network": "10.244.0.0/16", "Backend": "vxlan"}`, "Backend: not a JSON object such as {\"Network\": \"10.244.0.0/16\"}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, err := ParseNetwork([]byte(test.text))
			got := string(n.JSON())
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("ParseNetwork(%s) =\n%s\nwant\n%s", test.text, got, test.want)
			}
		})
	}
}

// What is accepted is complete, and its text leads back to it.
func FuzzParseNetwork(f *testing.F) {
	for _, seed := range []string{
		`{"Network": "10.244.0.0/16"}`, `{"EnableIPv6": true, "Network": "10.0.0.0/8", "IPv6Network": "fd42::/48", "SubnetLen": 26}`,
		`{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "::/0", "IPv6SubnetLen": 126}`, `{"Network": "0.0.0.0/0", "SubnetMin": "1.0.0.0"}`, `null`, `{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw", "MTU": 1400}}`, `{"Backend": null}`,
		`{"Network": "10.244.0.0/16", "NonMasquerade": ["192.168.0.0/16", "fd00::/8"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := ParseNetwork(text)
		if err != nil {
			if n != (Network{}) {
				t.Errorf("ParseNetwork gives %+v with the error %v", n, err)
			}
			return
		}
		again, err := ParseNetwork(n.JSON())
		if err != nil || again != n {
			t.Errorf("ParseNetwork(%s) = %+v, %v, want %+v", n.JSON(), again, err, n)
		}
		for _, p := range n.Pools {
			if p.IsValid() && p.Size() < math.MaxUint64 && (!p.Contains(p.Min) || !p.Contains(p.Max) || !p.Contains(p.At(0)) || !p.Contains(p.At(p.Size()-1)) || p.At(p.Size()-1) != p.Max) {
				t.Errorf("pool %+v does not contain its own first and last subnet", p)
			}
		}
	})
}

func TestNetworkContains(t *testing.T) {
	t.Parallel()
	n, err := ParseNetwork([]byte(`{"Network": "10.244.0.0/16"}`))
	if err != nil {
		t.Fatal(err)
	}
	for subnet, want := range map[string]bool{
		"10.244.3.0/24":   true,
		"10.244.3.0/26":   true, // from a time with another SubnetLen
		"10.244.0.0/16":   false,
		"10.245.3.0/24":   false,
		"8.8.8.0/24":      false,
		"0.0.0.0/0":       false,
		"fd42:0:0:3::/64": false,
	} {
		p := netip.MustParsePrefix(subnet)
		var l Lease
		l.Subnets[FamilyOf(p.Addr())] = p
		if got := n.Contains(l); got != want {
			t.Errorf("Contains(%s) = %t, want %t", subnet, got, want)
		}
	}
	if n.Contains(Lease{}) {
		t.Error("Contains(no subnet) = true")
	}
}
