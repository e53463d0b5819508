package kernel

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// sourceBatch gathers changes of Sources and sends many in one transaction.
type sourceBatch struct {
	guards *guards
	rows   []backend.Change // of one table
	gone   map[string]bool  // tables that were deleted with all that is in them
	errs   []error          // a *backend.ChangeError for each change that was refused
}

// sourceBatchSize bounds the rows of one transaction: the elements of one set
// have to fit into an attribute of 64 KiB.
const sourceBatchSize = 500

func (b *sourceBatch) add(c backend.Change) {
	table := c.Key().Name
	if b.gone[table] && c.Want == nil {
		return
	}
	if len(b.rows) == sourceBatchSize || len(b.rows) > 0 && b.rows[0].Key().Name != table {
		b.flush()
	}
	b.rows = append(b.rows, c)
}

// setGuard makes the change of a Guard, after the rows that were gathered.
func (b *sourceBatch) setGuard(c backend.Change) {
	b.flush()
	if err := b.guards.set(c); err != nil {
		b.errs = append(b.errs, &backend.ChangeError{Change: c, Err: err})
		return
	}
	if c.Want == nil {
		if b.gone == nil {
			b.gone = map[string]bool{}
		}
		b.gone[c.Key().Name] = true
	}
}

func (b *sourceBatch) flush() {
	if len(b.rows) > 0 {
		b.errs = append(b.errs, b.guards.setSources(b.rows)...)
		b.rows = b.rows[:0]
	}
}

// setSources makes changes of Sources of one table. The kernel refuses all of
// them for one, so then that one is searched.
func (g *guards) setSources(rows []backend.Change) []error {
	err := g.trySources(rows)
	if refused := (errRefused{}); errors.As(err, &refused) && len(rows) > 1 {
		half := len(rows) / 2
		return append(g.setSources(rows[:half]), g.setSources(rows[half:])...)
	}
	if err == nil {
		return nil
	}
	errs := make([]error, len(rows))
	for i, c := range rows {
		errs[i] = &backend.ChangeError{Change: c, Err: err}
	}
	return errs
}

func (g *guards) trySources(rows []backend.Change) error {
	if g.conn == nil {
		return ErrNoGuard
	}
	var changes setChanges
	for _, c := range rows {
		changes.row(c)
	}
	table := rows[0].Key().Name
	t := g.begin(inet)
	g.defineTable(t, table, changes.sets)
	t.rows = t.seq + 1
	for i, s := range changes.sets {
		if gone := changes.remove[i]; gone != nil {
			// What is not there can't be deleted, and need not be there.
			t.add(unix.NFT_MSG_NEWSETELEM, s.elements(table, gone))
			t.remove(unix.NFT_MSG_DELSETELEM, s.elements(table, gone))
		}
		if come := changes.add[i]; come != nil {
			t.add(unix.NFT_MSG_NEWSETELEM, s.elements(table, come))
		}
	}
	return g.commit(t)
}

// setChanges is what rows come to: for each set, the elements to add and those to
// remove.
type setChanges struct {
	sets        []addrSet
	add, remove []body
}

func (c *setChanges) row(row backend.Change) {
	want, _ := row.Want.(backend.Source)
	if have, ok := row.Have.(backend.Source); ok {
		wanted := func(s addrSet, pods netip.Prefix) bool {
			return row.Want != nil && (s.len == noSubnets || subnetSet(want, s.pods) == s && want.Subnets[s.pods] == pods)
		}
		eachElement(have, func(s addrSet, pods netip.Prefix) {
			if !wanted(s, pods) {
				i := c.index(s)
				c.remove[i] = c.remove[i].put(nftaListElem, s.element(have.VTEP, pods))
			}
		})
	}
	if row.Want == nil {
		return
	}
	eachElement(want, func(s addrSet, pods netip.Prefix) {
		i := c.index(s)
		c.add[i] = c.add[i].put(nftaListElem, s.element(want.VTEP, pods))
	})
}

func (c *setChanges) index(s addrSet) int {
	i := slices.Index(c.sets, s)
	if i < 0 {
		i = len(c.sets)
		c.sets, c.add, c.remove = append(c.sets, s), append(c.add, nil), append(c.remove, nil)
	}
	return i
}

// eachElement calls f for the elements of a row.
func eachElement(s backend.Source, f func(addrSet, netip.Prefix)) {
	if s.Stray == 0 {
		f(addrSet{vteps: subnet.FamilyOf(s.VTEP)}, netip.Prefix{})
	}
	for i, p := range s.Subnets {
		if p.IsValid() {
			f(subnetSet(s, subnet.Family(i)), p)
		}
	}
}
