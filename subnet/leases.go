package subnet

import (
	"cmp"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
)

// Record is a Lease as the store keeps it.
type Record struct {
	Lease
	Created  int64 // revision at which its key was made: the smaller, the older
	Modified int64 // revision at which its value was last written
	ID       int64 // of the store's own lease, by which it runs out; 0: a reservation

	key string // set in records of a Leases
}

// Key is that of the lease.
func (r Record) Key() string {
	if r.key != "" {
		return r.key
	}
	return r.Lease.Key()
}

// Awaited reports whether this is a subnet that is reserved for a node which
// has not been there yet: it is known by name and has nothing to say of itself.
func (r Record) Awaited() bool {
	return r.ID == 0 && r.Node != "" && r.Type == VXLAN && r.Data == [2]string{}
}

// Older compares records by age, as slices.SortFunc wants it. Where two leases
// contradict each other, the older one was there first.
func Older(a, b Record) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Key(), b.Key()))
}

// Leases is a set of Records, at most one per Key. It never changes: With and
// Without return another set, which shares nearly all memory with the first.
// So a set can be kept and passed on at no cost, and the difference between a
// set and its successor is found without looking at what they share.
//
// The zero Leases is empty.
type Leases struct{ root *branch }

// branch is a node of a treap: a search tree by key and a heap by rank. Ranks
// are hashes of the keys, so the shape of the tree follows from its keys and not
// from its history, and is balanced whatever the keys are.
type branch struct {
	key         string
	rank        uint64
	record      Record
	size        int
	left, right *branch
}

var rankSeed = maphash.MakeSeed()

func newBranch(r Record) *branch {
	key := r.Lease.Key()
	r.key = key
	return &branch{key: key, rank: maphash.String(rankSeed, key), record: r, size: 1}
}

// with is a copy of b between two trees.
func (b *branch) with(left, right *branch) *branch {
	c := *b
	c.left, c.right, c.size = left, right, 1+left.len()+right.len()
	return &c
}

func (b *branch) len() int {
	if b == nil {
		return 0
	}
	return b.size
}

// NewLeases is the set of the given records, of which each has another Key.
func NewLeases(records []Record) Leases {
	branches := make([]*branch, len(records))
	for i, r := range records {
		branches[i] = newBranch(r)
	}
	slices.SortFunc(branches, func(a, b *branch) int { return strings.Compare(a.key, b.key) })
	// Each branch in turn is the last of its tree, so it is the right child of
	// the nearest one before it with a higher rank, and what stood there comes
	// before it. The path of right children is a stack.
	var path []*branch
	for _, b := range branches {
		for len(path) > 0 && path[len(path)-1].rank <= b.rank {
			b.left = path[len(path)-1]
			path = path[:len(path)-1]
		}
		if len(path) > 0 {
			path[len(path)-1].right = b
		}
		path = append(path, b)
	}
	if len(path) == 0 {
		return Leases{}
	}
	path[0].count()
	return Leases{path[0]}
}

// count sets the sizes of a tree.
func (b *branch) count() int {
	if b == nil {
		return 0
	}
	b.size = 1 + b.left.count() + b.right.count()
	return b.size
}

// Len is the number of leases.
func (s Leases) Len() int { return s.root.len() }

// Get returns the record of a key.
func (s Leases) Get(key string) (Record, bool) {
	b := s.root
	for b != nil {
		switch c := strings.Compare(key, b.key); {
		case c == 0:
			return b.record, true
		case c < 0:
			b = b.left
		default:
			b = b.right
		}
	}
	return Record{}, false
}

// With is the set with r, instead of what it has under the same key.
func (s Leases) With(r Record) Leases { return Leases{insert(s.root, newBranch(r))} }

func insert(b, add *branch) *branch {
	switch {
	case b == nil:
		return add
	case b.key == add.key:
		return add.with(b.left, b.right)
	case add.rank > b.rank:
		left, _, right := split(b, add.key)
		return add.with(left, right)
	case add.key < b.key:
		return b.with(insert(b.left, add), b.right)
	}
	return b.with(b.left, insert(b.right, add))
}

// Without is the set without a key.
func (s Leases) Without(key string) Leases {
	if _, ok := s.Get(key); !ok {
		return s
	}
	return Leases{remove(s.root, key)}
}

func remove(b *branch, key string) *branch {
	switch {
	case b.key == key:
		return join(b.left, b.right)
	case key < b.key:
		return b.with(remove(b.left, key), b.right)
	}
	return b.with(b.left, remove(b.right, key))
}

// split is what comes before a key, the key's own branch or nil, and what comes
// after it.
func split(b *branch, key string) (before, at, after *branch) {
	switch {
	case b == nil:
		return nil, nil, nil
	case b.key == key:
		return b.left, b, b.right
	case key < b.key:
		before, at, after = split(b.left, key)
		return before, at, b.with(after, b.right)
	}
	before, at, after = split(b.right, key)
	return b.with(b.left, before), at, after
}

// join makes one tree of two, when all keys of the first come before the second's.
func join(a, b *branch) *branch {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.rank > b.rank:
		return a.with(a.left, join(a.right, b))
	}
	return b.with(join(a, b.left), b.right)
}

// All lists the records in the order of their keys.
func (s Leases) All() iter.Seq[Record] {
	return func(yield func(Record) bool) { s.root.all(yield) }
}

func (b *branch) all(yield func(Record) bool) bool {
	return b == nil || b.left.all(yield) && yield(b.record) && b.right.all(yield)
}

// Difference calls gone for every record of old that is not in s, and come for
// every record of s that is not in old; a record that was changed is told as
// both. What the sets share is not looked at.
func (s Leases) Difference(old Leases, gone, come func(Record)) {
	difference(old.root, s.root, gone, come)
}

func difference(old, now *branch, gone, come func(Record)) {
	if old == now {
		return
	}
	if now == nil {
		old.all(func(r Record) bool { gone(r); return true })
		return
	}
	before, at, after := split(old, now.key)
	difference(before, now.left, gone, come)
	switch {
	case at == nil:
		come(now.record)
	case at.record != now.record:
		gone(at.record)
		come(now.record)
	}
	difference(after, now.right, gone, come)
}
