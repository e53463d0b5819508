package backend

import "slices"

// Change is one step from what the kernel has to what we want. Have is nil when
// a row is to be added, Want when it is to be deleted; with both the row is to
// be replaced.
type Change struct {
	Have, Want Entry
}

// Key is that of the row that changes.
func (c Change) Key() Key {
	if c.Want != nil {
		return c.Want.Key()
	}
	return c.Have.Key()
}

// Replaces reports whether the row exists and becomes another.
func (c Change) Replaces() bool { return c.Have != nil && c.Want != nil }

func (c Change) String() string {
	switch {
	case c.Have == nil:
		return "add " + c.Want.String()
	case c.Want == nil:
		return "delete " + c.Have.String()
	}
	return "set " + c.Want.String() + "; was " + c.Have.String()
}

// Diff is the changes that lead from have to want. Applied in order they leave
// no gap: rows are added after what they depend on, and all that is added is
// there before the first row is deleted. Diff(want, want) is empty.
func Diff(want, have State) []Change {
	changes := differences(AllKinds, want, have)
	sortChanges(changes)
	return changes
}

// differences is the Diff of rows of some kinds, in no order; have holds no
// others.
func differences(kinds Kinds, want, have State) []Change {
	var changes []Change
	for key, w := range want {
		if !kinds.Has(key.Kind) {
			continue
		}
		if h := have[key]; h != w {
			changes = append(changes, Change{Have: h, Want: w})
		}
	}
	for key, h := range have {
		if _, ok := want[key]; !ok {
			changes = append(changes, Change{Have: h})
		}
	}
	return changes
}

// sortChanges puts what is added or set first, in the order of application, and
// then what is deleted, in the opposite order.
func sortChanges(changes []Change) {
	slices.SortFunc(changes, func(a, b Change) int {
		switch {
		case a.Want != nil && b.Want != nil:
			return a.Key().compare(b.Key())
		case a.Want == nil && b.Want == nil:
			return b.Key().compare(a.Key())
		case a.Want == nil:
			return 1
		}
		return -1
	})
}
