package vxlan_test

import (
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/backend/vxlan"
	"tulle/subnet"
)

// A peer has one Source, whatever its subnets are and whether packets to it are
// put into VXLAN or not.
func TestSources(t *testing.T) {
	for _, test := range []struct {
		name, backend string
		guard         backend.GuardMode
		peer          subnet.Lease
		want          string
	}{
		{"both families", "", backend.GuardStrict, lease("192.0.2.11", "10.244.2.0/24", "fd42:0:0:2::/64"), `
			source 192.0.2.11 dev tulle.1 from 10.244.2.0/24 fd42:0:0:2::/64
			guard dev tulle.1 id 1 dstport 8472 on IPv4 mode strict`},
		{"the VTEP alone is looked at", "", backend.GuardVTEP, lease("192.0.2.11", "10.244.2.0/24", ""), `
			source 192.0.2.11 dev tulle.1 from 10.244.2.0/24
			guard dev tulle.1 id 1 dstport 8472 on IPv4 mode vtep`},
		{"plain routes to a peer on the link", `"DirectRouting":true`, backend.GuardStrict, lease("192.0.2.11", "10.244.2.0/24", ""), `
			source 192.0.2.11 dev tulle.1 from 10.244.2.0/24
			guard dev tulle.1 id 1 dstport 8472 on IPv4 mode strict`},
		{"no guard", "", backend.GuardOff, lease("192.0.2.11", "10.244.2.0/24", ""), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := input(t, test.backend)
			in.Guard = test.guard
			rows, err := vxlan.New(in.Network).Peer(in, test.peer)
			if err != nil {
				t.Fatal(err)
			}
			s := vxlan.New(in.Network).Node(in)
			s.Add(rows...)
			var got strings.Builder
			for _, e := range s.Sorted() {
				if backend.Guards.Has(e.Key().Kind) {
					got.WriteString("\n\t\t\t" + e.String())
				}
			}
			if got.String() != test.want {
				t.Errorf("the rows are %s\nwant %s", got.String(), test.want)
			}
		})
	}
}

// Leases made under another SubnetLen are good, and told apart.
func TestSourcesOfAnotherLength(t *testing.T) {
	in := input(t, "")
	in.Guard = backend.GuardStrict
	for subnets, odd := range map[[2]string]bool{
		{"10.244.2.0/24", "fd42:0:0:2::/64"}: false,
		{"10.244.2.0/25", ""}:                true,
		{"10.244.4.0/22", "fd42:0:0:2::/64"}: true,
		{"", "fd42:0:0:2::/63"}:              true,
	} {
		rows, err := vxlan.New(in.Network).Peer(in, lease("192.0.2.11", subnets[0], subnets[1]))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range rows {
			if s, ok := e.(backend.Source); ok && s.Odd != odd {
				t.Errorf("Source of %v: Odd is %t, want %t", subnets, s.Odd, odd)
			}
		}
	}
}

func input(t *testing.T, backendFields string) backend.Input {
	t.Helper()
	n, err := subnet.ParseNetwork([]byte(`{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd42::/48","Backend":{` + backendFields + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	self := netip.MustParseAddr("192.0.2.10")
	return backend.Input{
		Network:  n,
		Underlay: backend.Underlay{Dev: "eth0", Addrs: [2]netip.Addr{self}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, MTU: 1500},
		Self:     subnet.Lease{Node: "self", Addrs: [2]netip.Addr{self}, Subnets: [2]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}},
	}
}

func lease(addr string, subnets ...string) subnet.Lease {
	l := subnet.Lease{Node: "peer", Type: subnet.VXLAN, Addrs: [2]netip.Addr{netip.MustParseAddr(addr)}}
	for f, text := range subnets {
		if text != "" {
			l.Subnets[f] = netip.MustParsePrefix(text)
			l.Data[f] = `{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"}`
		}
	}
	return l
}
