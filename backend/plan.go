package backend

import (
	"fmt"
	"net/netip"
	"slices"

	"tulle/subnet"
)

// Plan turns the leases of a cluster into a node's wanted State, and keeps it so
// while leases come and go, at a cost that grows with what changes and not with
// what stays.
//
// A peer whose lease makes no sense is left out and named; all others are not
// touched by it. Where the leases of two peers contradict each other, the older
// one counts: whoever comes later must not be able to take a subnet, an address
// or a row away. The result depends on the leases alone and not on the order in
// which they came.
//
// A Plan is not safe for use by several goroutines at once.
type Plan struct {
	backend Backend
	in      Input
	node    State // rows whoever the peers are

	leases  subnet.Leases            // as of the last Follow
	peers   map[string]planned       // those in the State, by lease key
	faults  map[string]error         // left out, by lease key
	awaited map[string]bool          // reserved for nodes that have not come yet, by lease key
	waiting map[string]subnet.Record // left out because of an older one

	subnets prefixes              // of the peers and our own, to lease keys
	addrs   map[netip.Addr]string // underlay addresses of the peers, to lease keys
}

// planned says how a peer is in the State.
type planned struct {
	noNexthop bool // its nexthop objects' ids are taken by other peers
}

// NewPlan returns a Plan for one node. The rows of node are wanted whoever the
// peers are, besides those of the backend.
func NewPlan(b Backend, in Input, node State) *Plan {
	p := &Plan{
		backend: b, in: in, node: b.Node(in),
		peers: map[string]planned{}, faults: map[string]error{}, awaited: map[string]bool{}, waiting: map[string]subnet.Record{},
		addrs: map[netip.Addr]string{},
	}
	for _, e := range node {
		p.node.Add(e)
	}
	for _, s := range in.Self.Subnets {
		p.subnets.add(s, in.Self.Key())
	}
	for _, a := range in.Self.Addrs {
		if a.IsValid() {
			p.addrs[a] = in.Self.Key()
		}
	}
	return p
}

// Desired is the wanted State for a set of leases, and why peers are left out.
func Desired(b Backend, in Input, node State, leases subnet.Leases) (State, map[string]error) {
	s := State{}
	p := NewPlan(b, in, node)
	p.Follow(s, leases)
	return s, p.Faults()
}

// Faults says which peers are left out and why, by the key of their lease.
func (p *Plan) Faults() map[string]error { return p.faults }

// Awaited says which leases are subnets that are reserved for nodes which have
// not come yet, by their key. Nothing leads there, and that is no fault.
func (p *Plan) Awaited() map[string]bool { return p.awaited }

// Holder finds the lease, by its key, with an address: in its subnet, or that of its
// node. It costs the same however many there are.
func (p *Plan) Holder(a netip.Addr) (key string, ok bool) {
	if key, ok = p.addrs[a]; ok || !a.IsValid() {
		return key, ok
	}
	return p.subnets.overlap(host(a))
}

// Rows is the rows that lead to a peer, or nil if it is left out.
func (p *Plan) Rows(l subnet.Lease) []Entry {
	how, ok := p.peers[l.Key()]
	if !ok {
		return nil
	}
	rows, err := p.rows(l, how)
	if err != nil {
		return nil // it has changed since, or it would not be in the State
	}
	return rows
}

func (p *Plan) rows(l subnet.Lease, how planned) ([]Entry, error) {
	in := p.in
	in.Nexthops = in.Nexthops && !how.noNexthop
	return p.backend.Peer(in, in.Network.Restrict(l))
}

// Follow makes want, which is the result of the last Follow or empty before the
// first, the wanted State for these leases. It returns what it changed, in the
// order of Diff.
func (p *Plan) Follow(want State, leases subnet.Leases) []Change {
	e := edit{state: want}
	for _, row := range p.node {
		e.set(row)
	}
	var queue []subnet.Record // to be decided, oldest first
	removed := false
	leases.Difference(p.leases, func(gone subnet.Record) {
		removed = p.remove(&e, gone.Lease) || removed
		delete(p.waiting, gone.Key())
		delete(p.faults, gone.Key())
		delete(p.awaited, gone.Key())
	}, func(come subnet.Record) {
		if come.Key() != p.in.Self.Key() {
			queue = append(queue, come)
		}
	})
	p.leases = leases
	if removed {
		queue = p.reconsider(queue)
	}
	slices.SortFunc(queue, subnet.Older)
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		for _, younger := range p.decide(&e, r) {
			// What the younger one kept out is younger still, so all that is to
			// be decided again comes later than r.
			queue = append(p.reconsider(queue), younger)
			slices.SortFunc(queue, subnet.Older)
		}
	}
	return e.changes()
}

// reconsider adds those that wait for an older one to the queue.
func (p *Plan) reconsider(queue []subnet.Record) []subnet.Record {
	for key, r := range p.waiting {
		delete(p.waiting, key)
		delete(p.faults, key)
		if !slices.Contains(queue, r) {
			queue = append(queue, r)
		}
	}
	return queue
}

// decide puts a peer into the State or leaves it out. It returns the younger
// peers that had to make room.
func (p *Plan) decide(e *edit, r subnet.Record) (evicted []subnet.Record) {
	key, how := r.Key(), planned{}
	delete(p.faults, key)
	rows, err := p.rows(r.Lease, how)
	switch {
	case err != nil && r.Awaited():
		p.awaited[key] = true
		return nil
	case err != nil:
		p.faults[key] = err
		return nil
	}
	for {
		c, ok := p.clash(e.state, r.Lease, rows)
		if !ok {
			break
		}
		if c.nexthop && !how.noNexthop {
			// Another peer's gateway has the same id: rare, and no fault of theirs.
			how.noNexthop = true
			if rows, err = p.rows(r.Lease, how); err != nil {
				p.faults[key] = err
				return evicted
			}
			continue
		}
		other, _ := p.leases.Get(c.with)
		if c.with == p.in.Self.Key() || subnet.Older(other, r) < 0 {
			p.faults[key] = fmt.Errorf("%s %s", c.what, p.holder(c.with))
			p.waiting[key] = r
			return evicted
		}
		p.remove(e, other.Lease)
		evicted = append(evicted, other)
	}
	for _, row := range rows {
		e.set(row)
	}
	p.peers[key] = how
	for f, s := range r.Subnets {
		p.subnets.add(s, key)
		if a := r.Addrs[f]; a.IsValid() {
			p.addrs[a] = key
		}
	}
	return evicted
}

// clash is what a peer cannot have because another has it.
type clash struct {
	what    string // begins a sentence that the other's lease ends
	with    string // the other's lease key
	nexthop bool   // it is the id of a nexthop object
}

func (p *Plan) clash(want State, l subnet.Lease, rows []Entry) (clash, bool) {
	for f, s := range l.Subnets {
		if key, ok := p.subnets.overlap(s); ok {
			return clash{what: "its subnet overlaps", with: key}, true
		}
		if key, ok := p.addrs[l.Addrs[f]]; ok {
			return clash{what: fmt.Sprintf("its public address %s is that of", l.Addrs[f]), with: key}, true
		}
	}
	for _, row := range rows {
		if want[row.Key()] == nil {
			continue
		}
		c := clash{what: fmt.Sprintf("it needs the row %s, which is taken by", row), with: p.owner(row.Key()), nexthop: row.Key().Kind == KindNexthop}
		if fdb, ok := row.(FDB); ok {
			c.what = fmt.Sprintf("its VTEP's MAC address %s is that of", fdb.MAC)
		}
		return c, true
	}
	return clash{}, false
}

// owner finds whose row it is: a peer's, or else the node's own. It looks at
// all peers, which is slow and rare.
func (p *Plan) owner(row Key) string {
	for r := range p.leases.All() {
		if slices.ContainsFunc(p.Rows(r.Lease), func(e Entry) bool { return e.Key() == row }) {
			return r.Key()
		}
	}
	return p.in.Self.Key()
}

// holder names the lease of a key.
func (p *Plan) holder(key string) string {
	if r, ok := p.leases.Get(key); ok && key != p.in.Self.Key() {
		return "the older lease " + r.Lease.String()
	}
	return "this node's own lease"
}

// remove takes a peer out of the State, and reports whether it was there.
func (p *Plan) remove(e *edit, l subnet.Lease) bool {
	key := l.Key()
	if _, ok := p.peers[key]; !ok {
		return false
	}
	for _, row := range p.Rows(l) {
		e.drop(row)
	}
	for f, s := range l.Subnets {
		p.subnets.remove(s)
		delete(p.addrs, l.Addrs[f])
	}
	delete(p.peers, key)
	return true
}

// edit changes a State and keeps account of it.
type edit struct {
	state State
	steps []Change
}

func (e *edit) set(row Entry) {
	key := row.Key()
	if before := e.state[key]; before != row {
		e.steps = append(e.steps, Change{Have: before, Want: row})
		e.state[key] = row
	}
}

func (e *edit) drop(row Entry) {
	key := row.Key()
	if before := e.state[key]; before != nil {
		e.steps = append(e.steps, Change{Have: before})
		delete(e.state, key)
	}
}

// changes is what the steps come to.
func (e *edit) changes() []Change {
	slices.SortStableFunc(e.steps, func(a, b Change) int { return a.Key().compare(b.Key()) })
	changes := e.steps[:0]
	for i := 0; i < len(e.steps); {
		c := e.steps[i]
		key := c.Key()
		for i++; i < len(e.steps) && e.steps[i].Key() == key; i++ {
			c.Want = e.steps[i].Want
		}
		if c.Have != c.Want {
			changes = append(changes, c)
		}
	}
	sortChanges(changes)
	return changes
}
