package backend

import (
	"maps"
	"slices"
	"strings"
)

// State is a set of Entries, at most one per Key.
type State map[Key]Entry

// NewState is the set of the given entries; a later one replaces an earlier one
// of the same Key.
func NewState(entries ...Entry) State {
	s := make(State, len(entries))
	s.Add(entries...)
	return s
}

// Add puts entries into the set; one that is there under the same Key is
// replaced.
func (s State) Add(entries ...Entry) {
	for _, e := range entries {
		s[e.Key()] = e
	}
}

// Same is the entry of the set that is equal to e, or else e itself: what is as
// wanted then takes no memory a second time.
func (s State) Same(e Entry) Entry {
	if own := s[e.Key()]; own == e {
		return own
	}
	return e
}

// Become makes the set another, and returns the changes that led there.
func (s State) Become(now State) []Change {
	changes := Diff(now, s)
	clear(s)
	maps.Copy(s, now)
	return changes
}

// Sorted lists the entries in the order of application.
func (s State) Sorted() []Entry {
	entries := make([]Entry, 0, len(s))
	for _, e := range s {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return a.Key().compare(b.Key()) })
	return entries
}

// String is one line for each entry, in the order of application.
func (s State) String() string {
	var b strings.Builder
	for _, e := range s.Sorted() {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}
