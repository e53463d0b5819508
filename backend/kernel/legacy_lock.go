package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// xtablesLock is a file that whoever changes legacy tables locks: the iptables
// programs, and what else follows their custom.
const xtablesLock = "/run/xtables.lock"

// lockWatch tells whether the lock was used. Not all use it, so nothing may
// depend on that alone.
type lockWatch struct {
	fd    int // of inotify(7); -1: there is none to have
	watch int // of the file; -1: it is not there
}

func watchLock() *lockWatch {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		fd = -1
	}
	w := &lockWatch{fd: fd, watch: -1}
	w.used() // from now on
	return w
}

func (w *lockWatch) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}

// used reports whether the lock may have been used since the last call.
func (w *lockWatch) used() bool {
	if w.fd < 0 {
		return false
	}
	used := false
	var events [64 * unix.SizeofInotifyEvent]byte // of a file they have no name
	for {
		n, err := unix.Read(w.fd, events[:])
		if err != nil || n <= 0 {
			break
		}
		used = true
		for at := 0; at+unix.SizeofInotifyEvent <= n; at += unix.SizeofInotifyEvent {
			if e := (*unix.InotifyEvent)(unsafe.Pointer(&events[at])); e.Mask&unix.IN_IGNORED != 0 && int(e.Wd) == w.watch {
				w.watch = -1 // the file is gone
			}
		}
	}
	if w.watch < 0 {
		// The lock is let go when the file is closed.
		if watch, err := unix.InotifyAddWatch(w.fd, xtablesLock, unix.IN_CLOSE); err == nil {
			w.watch, used = watch, true
		}
	}
	return used
}
