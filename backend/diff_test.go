package backend_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tulle/backend"
	"tulle/backend/backendtest"
	"tulle/subnet"
)

// randomState is some of few rows of every kind, with what they depend on.
func randomState(r *rand.Rand) backend.State {
	s := backend.State{}
	if r.IntN(4) == 0 {
		return s
	}
	dev := "tulle.1"
	s.Add(backend.Link{Name: dev, Up: true, MTU: 1400 + r.IntN(2), VNI: 1 + r.IntN(2)}, backend.Sysctl{Name: "net/ipv4/ip_forward", Value: "1"})
	for i := range 5 {
		if r.IntN(2) == 0 {
			continue
		}
		gw := netip.AddrFrom4([4]byte{10, 244, byte(i), 0})
		mac := backend.MAC{2, byte(r.IntN(2)), 0, 0, 0, byte(i)}
		id := uint32(1 + r.IntN(2)*100 + i)
		s.Add(
			backend.Addr{Dev: dev, Prefix: netip.PrefixFrom(gw, 32-r.IntN(2))},
			backend.FDB{Dev: dev, MAC: mac, Dst: gw},
			backend.Neigh{Dev: dev, IP: gw, MAC: mac},
			backend.Nexthop{ID: id, Via: gw, Dev: dev, Onlink: true},
			backend.Route{Dst: netip.PrefixFrom(gw, 24), Nexthop: id},
			backend.Chain{Family: subnet.Family(i % 2), Table: "nat", Name: fmt.Sprint("C", i), Rules: backend.Rules(fmt.Sprint(r.IntN(2)))},
			backend.Jump{Family: subnet.Family(i % 2), Table: "nat", From: "POSTROUTING", To: fmt.Sprint("C", i)},
		)
	}
	return s
}

// Applied to a kernel that refuses rows without what they depend on, the Diff of
// two states leads from one to the other, and then there is nothing more to do.
func TestDiffLaw(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		diffLaw(t, seed)
	}
}

func FuzzDiff(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(diffLaw)
}

func diffLaw(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, seed))
	have, want := randomState(r), randomState(r)
	if d := backend.Diff(want, want); len(d) > 0 {
		t.Fatalf("Diff(want, want) = %v, want nothing", d)
	}
	var k backendtest.Kernel
	k.Put(backend.State(have).Sorted()...)
	for pass := 0; ; pass++ { // a link made anew takes its rows with it
		changes := backend.Diff(want, k.Rows())
		if len(changes) == 0 {
			break
		}
		if pass == 2 {
			t.Fatalf("seed %d: after two passes there is still to do: %v", seed, changes)
		}
		if _, err := k.Apply(context.Background(), changes); err != nil && pass == 1 {
			t.Fatalf("seed %d: %v\nin %v", seed, err, changes)
		}
	}
	if got := k.Rows(); !maps.Equal(got, want) {
		t.Fatalf("seed %d: the kernel has\n%vwant\n%v", seed, got, want)
	}
}

// No row is deleted before all that is added is there, and none is added before
// what it depends on.
func TestDiffOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		deleting, last := false, backend.Kind(0)
		for i, c := range backend.Diff(randomState(r), randomState(r)) {
			kind := c.Key().Kind
			switch {
			case c.Want == nil && !deleting:
				deleting, last = true, kind
			case c.Want != nil && deleting:
				t.Fatalf("seed %d: %v comes after a deletion", seed, c)
			case i > 0 && !deleting && kind < last, deleting && kind > last:
				t.Fatalf("seed %d: %v is out of order", seed, c)
			}
			last = kind
		}
	}
}

func TestChangeString(t *testing.T) {
	t.Parallel()
	a := backend.Neigh{Dev: "tulle.1", IP: netip.MustParseAddr("10.244.2.0"), MAC: backend.MAC{2, 0, 0, 0, 0, 1}}
	b := a
	b.MAC[5] = 2
	for want, c := range map[string]backend.Change{
		"add neigh 10.244.2.0 lladdr 02:00:00:00:00:01 dev tulle.1 nud permanent":                                                                          {Want: a},
		"delete neigh 10.244.2.0 lladdr 02:00:00:00:00:01 dev tulle.1 nud permanent":                                                                       {Have: a},
		"set neigh 10.244.2.0 lladdr 02:00:00:00:00:02 dev tulle.1 nud permanent; was neigh 10.244.2.0 lladdr 02:00:00:00:00:01 dev tulle.1 nud permanent": {Have: a, Want: b},
	} {
		if got := c.String(); got != want {
			t.Errorf("String() = %s, want %s", got, want)
		}
	}
}

func FuzzParseMAC(f *testing.F) {
	f.Add("0a:58:0a:f4:01:02")
	f.Add("FF:ff:00:11:22:33")
	f.Add("0a-58-0a-f4-01-02")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := backend.ParseMAC(text)
		if err != nil {
			return
		}
		if again, err := backend.ParseMAC(m.String()); err != nil || again != m {
			t.Errorf("ParseMAC(%q) = %v, %v, want %v", m.String(), again, err, m)
		}
	})
}
