package backend

import (
	"errors"
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
	peers   map[string]planned       // in the State, by lease key
	faults  map[string]error         // left out, by lease key
	waiting map[string]subnet.Record // left out because of an older one

	subnets prefixes              // of the peers and our own, to lease keys
	addrs   map[netip.Addr]string // underlay addresses of the peers, to lease keys
}

// planned is a peer in the State.
type planned struct {
	subnet.Record
	noNexthop bool // its nexthop objects' ids are taken
}

// NewPlan returns a Plan for one node. The rows of node are wanted whoever the
// peers are, besides those of the backend.
func NewPlan(b Backend, in Input, node State) *Plan {
	p := &Plan{
		backend: b, in: in, node: b.Node(in),
		peers: map[string]planned{}, faults: map[string]error{}, waiting: map[string]subnet.Record{},
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

// Rows is the rows that lead to a peer, or nil if it is left out.
func (p *Plan) Rows(key string) []Entry {
	peer, ok := p.peers[key]
	if !ok {
		return nil
	}
	rows, _ := p.rows(peer) // it had none when it was planned
	return rows
}

func (p *Plan) rows(peer planned) ([]Entry, error) {
	in := p.in
	in.Nexthops = in.Nexthops && !peer.noNexthop
	return p.backend.Peer(in, peer.Lease)
}

// Follow makes want, which is the result of the last Follow or empty before the
// first, the wanted State for these leases. It returns what it changed, in the
// order of Diff.
func (p *Plan) Follow(want State, leases subnet.Leases) []Change {
	e := edit{state: want, before: map[Key]Entry{}}
	for _, row := range p.node {
		e.set(row)
	}
	var queue []subnet.Record // to be decided, oldest first
	removed := false
	leases.Difference(p.leases, func(gone subnet.Record) {
		removed = p.remove(&e, gone.Key()) || removed
		delete(p.waiting, gone.Key())
		delete(p.faults, gone.Key())
	}, func(come subnet.Record) {
		if come.Lease != p.in.Self {
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
	key, peer := r.Key(), planned{Record: r}
	delete(p.faults, key)
	rows, err := p.rows(peer)
	if err != nil {
		p.faults[key] = err
		return nil
	}
	for {
		what, other, ok := p.conflict(e.state, r.Lease, rows)
		if !ok {
			break
		}
		if what.Kind == KindNexthop && !peer.noNexthop {
			// Another peer's gateway has the same id: rare, and no fault of theirs.
			peer.noNexthop = true
			if rows, err = p.rows(peer); err != nil {
				p.faults[key] = err
				return evicted
			}
			continue
		}
		older, planned := p.peers[other]
		if !planned || subnet.Older(older.Record, r) < 0 {
			p.faults[key] = p.contradiction(what, r.Lease, other)
			p.waiting[key] = r
			return evicted
		}
		p.remove(e, other)
		evicted = append(evicted, older.Record)
	}
	for _, row := range rows {
		e.set(row)
	}
	p.peers[key] = peer
	for f, s := range r.Subnets {
		p.subnets.add(s, key)
		if a := r.Addrs[f]; a.IsValid() {
			p.addrs[a] = key
		}
	}
	return evicted
}

// conflict finds what a peer cannot have because another has it: what, as the
// Key of a row or with the Prefix of an address or a subnet alone, and whose.
func (p *Plan) conflict(want State, l subnet.Lease, rows []Entry) (what Key, other string, found bool) {
	for f, s := range l.Subnets {
		if key, ok := p.subnets.overlap(s); ok {
			return Key{Prefix: s}, key, true
		}
		if key, ok := p.addrs[l.Addrs[f]]; ok {
			return Key{Prefix: host(l.Addrs[f])}, key, true
		}
	}
	for _, row := range rows {
		if want[row.Key()] != nil {
			return row.Key(), p.owner(row.Key()), true
		}
	}
	return Key{}, "", false
}

// owner finds whose row it is: a peer's, or else the node's own. It looks at
// all peers, which is slow and rare.
func (p *Plan) owner(row Key) string {
	for key := range p.peers {
		if slices.ContainsFunc(p.Rows(key), func(e Entry) bool { return e.Key() == row }) {
			return key
		}
	}
	return p.in.Self.Key()
}

func (p *Plan) contradiction(what Key, l subnet.Lease, other string) error {
	who := "this node's own lease"
	if r, ok := p.leases.Get(other); ok && r.Lease != p.in.Self {
		who = "the older lease " + r.Lease.String()
	}
	switch {
	case what.Kind == KindFDB:
		return fmt.Errorf("its VTEP's MAC address %s is that of %s", what.MAC, who)
	case what.Name != "" || what.ID != 0:
		return errors.New("it needs a row that is taken by " + who)
	case what.Prefix == l.Subnets[subnet.FamilyOf(what.Prefix.Addr())]:
		return errors.New("its subnet overlaps " + who)
	}
	return fmt.Errorf("its public address %s is that of %s", what.Prefix.Addr(), who)
}

// remove takes a peer out of the State, and reports whether it was there.
func (p *Plan) remove(e *edit, key string) bool {
	peer, ok := p.peers[key]
	if !ok {
		return false
	}
	for _, row := range p.Rows(key) {
		e.drop(row)
	}
	for f, s := range peer.Subnets {
		p.subnets.remove(s)
		delete(p.addrs, peer.Addrs[f])
	}
	delete(p.peers, key)
	return true
}

// edit changes a State and remembers how it was.
type edit struct {
	state  State
	before map[Key]Entry // of the rows touched; nil where there was none
}

func (e *edit) touch(key Key) {
	if _, touched := e.before[key]; !touched {
		e.before[key] = e.state[key]
	}
}

func (e *edit) set(row Entry) {
	key := row.Key()
	if e.state[key] != row {
		e.touch(key)
		e.state[key] = row
	}
}

func (e *edit) drop(row Entry) {
	e.touch(row.Key())
	delete(e.state, row.Key())
}

// changes is what the edit came to.
func (e *edit) changes() []Change {
	var changes []Change
	for key, before := range e.before {
		if now := e.state[key]; now != before {
			changes = append(changes, Change{Have: before, Want: now})
		}
	}
	sortChanges(changes)
	return changes
}
