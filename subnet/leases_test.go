package subnet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func testRecord(i, version int) Record {
	l := Lease{Node: fmt.Sprintf("node%d-%d", i, version), Type: VXLAN}
	l.Subnets[IPv4] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	return Record{Lease: l, Created: int64(i)}
}

// A set does what a map does, and keeps what it was when another is made of it.
func TestLeasesAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var set Leases
	model := map[string]Record{}
	for step := range 2000 {
		before, was := set, maps.Clone(model)
		rec := testRecord(r.IntN(300), step)
		if r.IntN(3) == 0 {
			set = set.Without(rec.Key())
			delete(model, rec.Key())
		} else {
			set = set.With(rec)
			model[rec.Key()] = rec
		}
		if step%50 == 0 {
			sameAsMap(t, set, model)
			sameAsMap(t, before, was)
		}
	}
}

func sameAsMap(t *testing.T, set Leases, model map[string]Record) {
	t.Helper()
	if set.Len() != len(model) {
		t.Fatalf("Len() = %d, want %d", set.Len(), len(model))
	}
	var keys []string
	for rec := range set.All() {
		keys = append(keys, rec.Key())
		if got, ok := set.Get(rec.Key()); !ok || got != rec || model[rec.Key()].Lease != rec.Lease {
			t.Fatalf("Get(%s) = %v, %t, want %v", rec.Key(), got, ok, model[rec.Key()])
		}
	}
	if want := slices.Sorted(maps.Keys(model)); !slices.Equal(keys, want) {
		t.Fatalf("All() lists %v, want %v", keys, want)
	}
}

func TestLeasesDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var old Leases
		for range r.IntN(100) {
			old = old.With(testRecord(r.IntN(60), 0))
		}
		now := old
		for range r.IntN(10) {
			if i := r.IntN(60); r.IntN(2) == 0 {
				now = now.With(testRecord(i, 1))
			} else {
				now = now.Without(testRecord(i, 0).Key())
			}
		}
		got := map[string]Record{}
		for rec := range old.All() {
			got[rec.Key()] = rec
		}
		now.Difference(old,
			func(gone Record) {
				if got[gone.Key()].Lease != gone.Lease {
					t.Fatalf("told that %v is gone, which was not there", gone)
				}
				delete(got, gone.Key())
			},
			func(come Record) {
				if _, there := got[come.Key()]; there {
					t.Fatalf("told that %v came, before its key was told to be gone", come)
				}
				got[come.Key()] = come
			})
		sameAsMap(t, now, got)
	}
}

// However a set came about, it has the same shape: what is built at once and
// what is built one by one share nothing and differ in nothing.
func TestNewLeases(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 60 {
		var records []Record
		var one Leases
		for _, i := range r.Perm(n) {
			records = append(records, testRecord(i, 0))
			one = one.With(testRecord(i, 0))
		}
		all := NewLeases(records)
		if !sameShape(all.root, one.root) {
			t.Fatalf("the set of %d leases built at once has another shape than that built one by one", n)
		}
		all.Difference(one, func(r Record) { t.Errorf("%v is gone", r) }, func(r Record) { t.Errorf("%v came", r) })
	}
}

func sameShape(a, b *branch) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.key == b.key && a.size == b.size && sameShape(a.left, b.left) && sameShape(a.right, b.right)
}

// The difference between a set and its successor does not look at what they share.
func TestLeasesDifferenceIsCheap(t *testing.T) {
	var old Leases
	for i := range 10000 {
		old = old.With(testRecord(i, 0))
	}
	now := old.With(testRecord(5000, 1))
	if got := testing.AllocsPerRun(10, func() { now.Difference(old, func(Record) {}, func(Record) {}) }); got > 200 {
		t.Errorf("the difference of one in 10,000 leases took %v allocations, want some tens", got)
	}
}
