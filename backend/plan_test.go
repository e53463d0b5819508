package backend_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"tulle/backend"
	"tulle/backend/hostgw"
	"tulle/backend/vxlan"
	"tulle/subnet"
)

func network(t testing.TB) subnet.Network {
	t.Helper()
	n, err := subnet.ParseNetwork([]byte(`{"Network": "10.244.0.0/16"}`))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func input(t testing.TB) backend.Input {
	n := network(t)
	self := peer(1, 1, 1).Lease
	return backend.Input{
		Network: n, Self: self, Owner: "tulle test", Nexthops: true,
		Underlay: backend.Underlay{Dev: "eth0", Addrs: self.Addrs, MTU: 1500},
	}
}

// peer is the lease of 10.244.SUBNET.0/24 at 192.0.2.ADDR with a MAC address
// that ends with the given number.
func peer(sub, addr, mac int) subnet.Record {
	l := subnet.Lease{Node: fmt.Sprintf("node%d", sub), Type: subnet.VXLAN}
	l.Subnets[subnet.IPv4] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(sub), 0}), 24)
	l.Addrs[subnet.IPv4] = netip.AddrFrom4([4]byte{192, 0, 2, byte(addr)})
	l.Data[subnet.IPv4] = fmt.Sprintf(`{"VNI":1,"VtepMAC":"0a:00:00:00:00:%02x"}`, mac)
	return subnet.Record{Lease: l}
}

// The state that a Plan arrives at does not depend on the way: after any
// sequence of leases that come, change, go and contradict each other it is what
// a new Plan makes of the same leases.
func TestPlanDependsOnLeasesAlone(t *testing.T) {
	t.Parallel()
	for _, options := range []string{`"Type": "vxlan"`, `"Type": "vxlan", "DirectRouting": true`, `"Type": "host-gw"`} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			in := input(t)
			var err error
			if in.Network, err = subnet.ParseNetwork([]byte(`{"Network": "10.244.0.0/16", "Backend": {` + options + `}}`)); err != nil {
				t.Fatal(err)
			}
			in.Underlay.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/29")} // some of the peers
			var b backend.Backend = vxlan.New(in.Network)
			if in.Network.Backend.Type == subnet.HostGW {
				b = hostgw.New(in.Network)
			}
			planDependsOnLeasesAlone(t, b, in)
		})
	}
}

func planDependsOnLeasesAlone(t *testing.T, b backend.Backend, in backend.Input) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		plan, state := backend.NewPlan(b, in, nil), backend.State{}
		var leases subnet.Leases
		for step := range 80 {
			for range 1 + r.IntN(3) {
				rec := randomPeer(r)
				if r.IntN(3) == 0 {
					leases = leases.Without(rec.Key())
				} else {
					rec.Created = int64(r.IntN(50))
					leases = leases.With(rec)
				}
			}
			before := maps.Clone(state)
			changes := plan.Follow(state, leases)
			want, faults := backend.Desired(b, in, nil, leases)
			if diff := backend.Diff(want, state); len(diff) > 0 {
				t.Fatalf("seed %d, step %d: state differs from that of a new plan: %v\nfaults %v\nwant faults %v", seed, step, diff, plan.Faults(), faults)
			}
			// Where a lease has several faults, any of them may be named.
			if got, want := names(plan.Faults()), names(faults); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: Faults() names %v, want %v", seed, step, got, want)
			}
			if got, want := fmt.Sprint(changes), fmt.Sprint(backend.Diff(state, before)); got != want {
				t.Fatalf("seed %d, step %d: Follow = %s, want %s", seed, step, got, want)
			}
			for rec := range leases.All() {
				if plan.Rows(rec.Lease) == nil {
					continue
				}
				for _, a := range []netip.Addr{rec.Subnets[subnet.IPv4].Addr().Next(), rec.Addrs[subnet.IPv4]} {
					if key, _ := plan.Holder(a); key != rec.Key() {
						t.Fatalf("seed %d, step %d: Holder(%s) = %q, want %s", seed, step, a, key, rec.Key())
					}
				}
			}
		}
	}
}

func names(faults map[string]error) []string { return slices.Sorted(maps.Keys(faults)) }

// randomPeer is one of few, so that many contradict each other, and sometimes
// makes no sense in itself.
func randomPeer(r *rand.Rand) subnet.Record {
	rec := peer(1+r.IntN(12), 1+r.IntN(10), 1+r.IntN(10))
	switch r.IntN(8) {
	case 0: // larger, so that it overlaps others
		rec.Subnets[subnet.IPv4] = netip.PrefixFrom(rec.Subnets[subnet.IPv4].Addr(), 22).Masked()
	case 1:
		rec.Data[subnet.IPv4] = `{"VNI":1,"VtepMAC":"garbage"}`
	case 2, 3:
		rec.Type, rec.Data[subnet.IPv4] = subnet.HostGW, ""
	}
	return rec
}

func TestPlanNamesContradictions(t *testing.T) {
	t.Parallel()
	in := input(t)
	for _, test := range []struct {
		name  string
		later subnet.Record // than 10.244.2.0/24 at 192.0.2.2 with MAC 2
		want  string
	}{
		{"same public address", peer(3, 2, 3), "its public address 192.0.2.2 is that of the older lease 10.244.2.0/24 of node node2"},
		{"same MAC address", peer(3, 3, 2), "its VTEP's MAC address 0a:00:00:00:00:02 is that of the older lease 10.244.2.0/24 of node node2"},
		{"our own subnet", larger(peer(0, 3, 3)), "its subnet overlaps this node's own lease"},
		{"our own address", peer(3, 1, 3), "its public address 192.0.2.1 is our own"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.later.Created = 9
			leases := subnet.Leases{}.With(peer(2, 2, 2)).With(test.later)
			state, faults := backend.Desired(vxlan.New(in.Network), in, nil, leases)
			if got := fmt.Sprint(faults[test.later.Key()]); got != test.want {
				t.Errorf("fault = %q, want %q", got, test.want)
			}
			alone, _ := backend.Desired(vxlan.New(in.Network), in, nil, leases.Without(test.later.Key()))
			if diff := backend.Diff(alone, state); len(diff) > 0 {
				t.Errorf("the lease that is left out changed the others' rows: %v", diff)
			}
		})
	}
}

func larger(r subnet.Record) subnet.Record {
	r.Subnets[subnet.IPv4] = netip.PrefixFrom(r.Subnets[subnet.IPv4].Addr(), 23)
	return r
}

// sameID is vxlan, but for the ids of its nexthop objects: all peers have one.
type sameID struct{ vxlan.VXLAN }

func (b sameID) Peer(in backend.Input, l subnet.Lease) ([]backend.Entry, error) {
	rows, err := b.VXLAN.Peer(in, l)
	for i, row := range rows {
		switch row := row.(type) {
		case backend.Nexthop:
			row.ID = 7
			rows[i] = row
		case backend.Route:
			if row.Nexthop != 0 {
				row.Nexthop = 7
				rows[i] = row
			}
		}
	}
	return rows, err
}

// Ids of IPv6 gateways are hashes, so two may be the same: then the younger peer
// is reached by a route that names its gateway itself, and gets the object when
// the older one is gone.
func TestPlanWithoutRoomForANexthop(t *testing.T) {
	t.Parallel()
	in := input(t)
	older, younger := peer(2, 2, 2), peer(3, 3, 3)
	younger.Created = 1
	plan, state := backend.NewPlan(sameID{vxlan.New(in.Network)}, in, nil), backend.State{}
	leases := subnet.NewLeases([]subnet.Record{older, younger})
	plan.Follow(state, leases)
	if len(plan.Faults()) > 0 {
		t.Errorf("left out: %v", plan.Faults())
	}
	gw := netip.MustParseAddr("10.244.3.0")
	for _, want := range []backend.Entry{
		backend.Route{Dst: netip.MustParsePrefix("10.244.2.0/24"), Nexthop: 7},
		backend.Route{Dst: netip.MustParsePrefix("10.244.3.0/24"), Via: gw, Dev: "tulle.1", Onlink: true},
	} {
		if got := state[want.Key()]; got != want {
			t.Errorf("row = %v, want %v", got, want)
		}
	}
	plan.Follow(state, leases.Without(older.Key()))
	if got, _ := backend.Desired(vxlan.New(in.Network), in, nil, subnet.Leases{}); len(state) < len(got)+3 {
		t.Errorf("after the older peer is gone the younger one is not reached: %v", state)
	}
}

// A change of one lease among many costs no more than among few.
func BenchmarkPlanFollow(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := input(b)
			in.Network.Pools[subnet.IPv4].Prefix = netip.MustParsePrefix("10.0.0.0/8")
			plan, state := backend.NewPlan(vxlan.New(in.Network), in, nil), backend.State{}
			var leases subnet.Leases
			for i := range n {
				leases = leases.With(benchPeer(i, 0))
			}
			plan.Follow(state, leases)
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				leases = leases.With(benchPeer(n/2, 1+i%2))
				if got := len(plan.Follow(state, leases)); got == 0 {
					b.Fatal("no change")
				}
			}
		})
	}
}

func benchPeer(i, version int) subnet.Record {
	r := peer(0, 0, 0)
	r.Node = fmt.Sprintf("node%d", i)
	r.Subnets[subnet.IPv4] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2 + byte(i>>8), byte(i), 0}), 24)
	r.Addrs[subnet.IPv4] = netip.AddrFrom4([4]byte{198, 18 + byte(version), byte(i >> 8), byte(i)})
	r.Data[subnet.IPv4] = fmt.Sprintf(`{"VNI":1,"VtepMAC":"0a:00:00:%02x:%02x:01"}`, byte(i>>8), byte(i))
	return r
}

// A subnet that is reserved for a node which has not come yet is no fault. When
// the node comes it is a peer like others, and when the reservation goes nothing
// is left of it.
func TestReservedForANodeThatComesLater(t *testing.T) {
	t.Parallel()
	in := input(t)
	plan, state := backend.NewPlan(vxlan.New(in.Network), in, nil), backend.State{}
	reserved, nobodys := peer(7, 17, 7), peer(8, 18, 8)
	reserved.Data, nobodys.Data = [2]string{}, [2]string{}
	nobodys.Node = "" // nobody will find it by name, so its value is a mistake
	for _, step := range []struct {
		name            string
		leases          []subnet.Record
		awaited, faults int
		rows            bool
	}{
		{"reserved", []subnet.Record{reserved, nobodys}, 1, 1, false},
		{"its node came", []subnet.Record{peer(7, 17, 7)}, 0, 0, true},
		{"reserved again", []subnet.Record{reserved}, 1, 0, false},
		{"gone", nil, 0, 0, false},
	} {
		plan.Follow(state, subnet.NewLeases(step.leases))
		if got := plan.Awaited(); len(got) != step.awaited || step.awaited == 1 && !got[reserved.Key()] {
			t.Errorf("%s: Awaited() = %v, want %d", step.name, got, step.awaited)
		}
		if got := plan.Faults(); len(got) != step.faults || got[reserved.Key()] != nil {
			t.Errorf("%s: Faults() = %v, want %d", step.name, got, step.faults)
		}
		if got := plan.Rows(peer(7, 17, 7).Lease); (got != nil) != step.rows {
			t.Errorf("%s: Rows() = %v, want some: %t", step.name, got, step.rows)
		}
	}
}
