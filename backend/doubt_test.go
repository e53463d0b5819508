package backend_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/subnet"
)

func TestDoubts(t *testing.T) {
	t.Parallel()
	nat := candidate("eth0", 100, "10.0.2.15/24")
	private := candidate("eth1", backend.NoDefault, "192.0.2.11/24")
	all := []backend.Candidate{nat, private}
	at := func(node, addr, pods string) subnet.Record {
		l := subnet.Lease{Node: node, Type: subnet.VXLAN}
		l.Addrs[subnet.IPv4] = netip.MustParseAddr(addr)
		l.Subnets[subnet.IPv4] = netip.MustParsePrefix(pods)
		return subnet.Record{Lease: l}
	}
	onPrivate, onNAT := at("node1", "192.0.2.11", "10.244.1.0/24"), at("node1", "10.0.2.15", "10.244.1.0/24")
	for _, test := range []struct {
		name, iface string
		candidates  []backend.Candidate
		self        subnet.Record
		peers       []subnet.Record
		want        []string // what each doubt is about, and what it says
	}{
		{"all on the private network", "eth1", all, onPrivate, []subnet.Record{at("node2", "192.0.2.12", "10.244.2.0/24")}, nil},
		{"a peer behind the NAT", "eth1", all, onPrivate, []subnet.Record{at("node2", "10.0.2.15", "10.244.2.0/24")},
			[]string{"10.244.2.0-24: node node2 announces 10.0.2.15, which eth0 of this host has too"}},
		{"this node behind the NAT", "eth0", all, onNAT, []subnet.Record{at("node2", "192.0.2.12", "10.244.2.0/24"), at("node3", "192.0.2.13", "10.244.3.0/24")},
			[]string{"eth1: node node2 is at 192.0.2.12, on the link of eth1, and this node announces 10.0.2.15 of eth0; if the others can't reach that, give --iface=eth1"}},
		{"peers behind a router", "eth0", all, onNAT, []subnet.Record{at("node2", "198.51.100.7", "10.244.2.0/24")}, nil},
		{"both devices on one link", "eth0", []backend.Candidate{candidate("eth0", 100, "192.0.2.10/24"), private}, onPrivate,
			[]subnet.Record{at("node2", "192.0.2.12", "10.244.2.0/24")}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, _, err := backend.ChooseUnderlay(test.candidates, backend.Wish{Families: fourFirst, Ifaces: []string{test.iface}})
			if err != nil {
				t.Fatal(err)
			}
			doubts := backend.Doubts(u, test.candidates, test.self.Lease, slices.Values(append(test.peers, test.self)))
			var got []string
			for _, what := range slices.Sorted(maps.Keys(doubts)) {
				got = append(got, what+": "+doubts[what].Error())
			}
			if len(got) != len(test.want) || !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("Doubts = %q, want %q", got, test.want)
			}
		})
	}
}
