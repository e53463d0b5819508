package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tulle/backend"
	"tulle/backend/backendtest"
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

// Etcd loses its leases, and again before all nodes are back: the time that peers
// are kept for begins anew, and those of the first time are among them.
func TestPeersAreKeptAfterEachLoss(t *testing.T) {
	t.Parallel()
	network, err := subnet.ParseNetwork([]byte(`{"Network": "10.244.0.0/16"}`))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		self := record("a", 1, 1)
		d := newDaemon(config{Node: self.Node}, zap.NewNop())
		d.rec = backend.NewReconciler(&backendtest.Kernel{}, d.passed)
		d.site = site{network: network, underlay: backend.Underlay{Dev: "eth0", Addrs: self.Addrs, MTU: 1500}, self: self.Lease}
		d.plan = d.site.plan(d.config, backend.Input{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.tend(ctx) }()
		follow := func(records ...subnet.Record) {
			d.follow(subnet.Snapshot{Rev: 1, Network: network, Leases: subnet.NewLeases(records)})
		}
		want := func(when string, peers int) {
			t.Helper()
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			if got := d.leases.Len() - 1; got != peers {
				t.Errorf("%s: %d peers, want %d", when, got, peers)
			}
		}

		follow(self, record("b", 2, 2), record("c", 3, 3))
		follow()
		want("all is lost", 2)
		follow(self)
		want("our own lease is back", 2)
		time.Sleep(grace - time.Second)
		follow()
		follow(self)
		time.Sleep(grace - time.Second)
		want("all was lost another time, not long ago", 2)
		time.Sleep(2 * time.Second)
		want("the time is over", 0)
		stop()
		<-ended
	})
}
