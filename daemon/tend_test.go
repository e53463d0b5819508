package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"tulle/subnet"
)

// record is a lease of 10.244.SUBNET.0/24 held by a node at 192.0.2.ADDR.
func record(node string, sub, addr int) subnet.Record {
	l := subnet.Lease{Node: node, Type: subnet.VXLAN}
	l.Subnets[subnet.IPv4] = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", sub))
	l.Addrs[subnet.IPv4] = netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", addr))
	return subnet.Record{Lease: l}
}

// After etcd has lost its leases, a peer stays until it shows itself again.
func TestMerge(t *testing.T) {
	t.Parallel()
	before := subnet.NewLeases([]subnet.Record{record("a", 1, 1), record("b", 2, 2), record("c", 3, 3), record("", 4, 4)})
	for _, test := range []struct {
		name string
		now  []subnet.Record
		want []string
	}{
		{"nobody is back", nil, []string{"10.244.1.0-24", "10.244.2.0-24", "10.244.3.0-24", "10.244.4.0-24"}},
		{"one is back where it was", []subnet.Record{record("a", 1, 1)}, []string{"10.244.1.0-24", "10.244.2.0-24", "10.244.3.0-24", "10.244.4.0-24"}},
		{"one is back with another subnet", []subnet.Record{record("b", 9, 2)}, []string{"10.244.1.0-24", "10.244.3.0-24", "10.244.4.0-24", "10.244.9.0-24"}},
		{"one without a name is back with another subnet", []subnet.Record{record("", 9, 4)}, []string{"10.244.1.0-24", "10.244.2.0-24", "10.244.3.0-24", "10.244.9.0-24"}},
		{"another node has a subnet now", []subnet.Record{record("d", 3, 7)}, []string{"10.244.1.0-24", "10.244.2.0-24", "10.244.3.0-24", "10.244.4.0-24"}},
	} {
		var got []string
		for r := range merge(before, subnet.NewLeases(test.now)).All() {
			got = append(got, r.Key())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: merge = %v, want %v", test.name, got, test.want)
		}
	}
	if got := merge(subnet.Leases{}, before); got != before {
		t.Error("at other times merge changes something")
	}
}
