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
