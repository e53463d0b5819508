package kernel

import (
	"sync"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

// replaced is the rows that somebody put by hand in the place of others. If one
// stands where ours was, ours is put back, where a stranger's row that was there
// first, or that another daemon put, is left alone. It is for use by several
// goroutines.
type replaced struct {
	mu   sync.Mutex
	keys map[backend.Key]bool
	// lacking is rows that could not be put there when that was tried last. What
	// somebody replaces then was none of ours.
	lacking map[backend.Key]bool
}

// mostReplaced bounds what is kept of rows that were none of ours.
const mostReplaced = 1 << 16

// note notes a row that replaced another, with the protocol of rtnetlink(7) that
// it is marked with.
func (r *replaced) note(row backend.Entry, protocol uint8) {
	if protocol != unix.RTPROT_BOOT && protocol != unix.RTPROT_UNSPEC { // as ip(8) marks what is put by hand
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lacking[row.Key()] {
		return
	}
	if r.keys == nil || len(r.keys) == mostReplaced {
		r.keys = map[backend.Key]bool{}
	}
	r.keys[row.Key()] = true
}

// take reports whether a row replaced another, once.
func (r *replaced) take(key backend.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.keys[key]
	delete(r.keys, key)
	return was
}

// tried notes which rows could not be put there, and which could.
func (r *replaced) tried(made, refused []backend.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lacking) > 0 {
		for _, c := range made {
			delete(r.lacking, c.Key())
		}
	}
	for _, c := range refused {
		if c.Have == nil {
			if r.lacking == nil {
				r.lacking = map[backend.Key]bool{}
			}
			r.lacking[c.Key()] = true
		}
	}
}
