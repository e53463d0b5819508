package kernel

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

const (
	// legacyPeriod is how often legacy tables are looked at, where there are any, and
	// legacyRest how often it is looked whether there are.
	legacyPeriod = 500 * time.Millisecond
	legacyRest   = time.Second
	// Reading their rules has bounds: these are how much longer than a read the time
	// to the next one is, for all tables together, where nothing tells that they may
	// have changed and where something does.
	idleShare = 2000
	busyShare = 50
)

// WatchLegacyRules tells l about changes of chains of ours in legacy tables, and
// of those that lead to them, until ctx ends, and returns the error of ctx then.
// The kernel tells nothing about these. So it looks twice a second at where
// their chains begin, which shows nearly all that can happen, and whether
// somebody held the lock of the iptables programs. Where one of these says that
// there may be a change, the rules are read; and now and then where nothing does,
// as often as half a thousandth of a processor allows.
func (k *Kernel) WatchLegacyRules(ctx context.Context, l Listener) error {
	tables, err := openLegacy(k.tables.jumps)
	if errors.Is(err, unix.EPERM) {
		// Without CAP_NET_RAW, as in some containers, legacy tables can't be read,
		// nor can we have written anything into them.
		<-ctx.Done()
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("open legacy tables: %w", err)
	}
	defer tables.close()
	tables.changed(time.Now()) // from now on
	for {
		wait := legacyRest
		if tables.any() {
			wait = legacyPeriod
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-time.After(wait):
			if tables.changed(now) {
				l.Wake(backend.Firewall)
			}
		}
	}
}

// legacyTables are the tables that jumps are in.
type legacyTables struct {
	tables []*watchedTable
	names  [2]*tableNames // by Family
	lock   *lockWatch
}

// watchedTable is a legacy table and how it was when it was looked at last.
type watchedTable struct {
	legacyTable
	info    tableInfo
	sum     uint64
	touched bool          // somebody may have changed it since it was read
	read    time.Time     // when it was
	cost    time.Duration // of reading it
}

func openLegacy(jumps []backend.Jump) (*legacyTables, error) {
	l := &legacyTables{lock: watchLock()}
	for f, x := range legacyFamilies {
		l.names[f] = &tableNames{path: x.names}
	}
	for _, j := range jumps {
		t := l.find(j)
		if t == nil {
			x := legacyFamilies[j.Family]
			socket, err := unix.Socket(x.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				l.close()
				return nil, err
			}
			t = &watchedTable{legacyTable: legacyTable{xtables: x, names: l.names[j.Family], socket: socket, name: j.Table}}
			l.tables = append(l.tables, t)
		}
		t.jumps = append(t.jumps, j)
	}
	return l, nil
}

func (l *legacyTables) find(j backend.Jump) *watchedTable {
	for _, t := range l.tables {
		if t.name == j.Table && t.jumps[0].Family == j.Family {
			return t
		}
	}
	return nil
}

func (l *legacyTables) close() {
	l.lock.close()
	for _, n := range l.names {
		n.close()
	}
	for _, t := range l.tables {
		unix.Close(t.socket)
	}
}

// any reports whether there was a table when it was looked last.
func (l *legacyTables) any() bool {
	return slices.ContainsFunc(l.tables, func(t *watchedTable) bool { return t.info != tableInfo{} })
}

// changed reports whether what concerns us is not as it was last time.
func (l *legacyTables) changed(now time.Time) bool {
	used, changed := l.lock.used(), false
	for _, t := range l.tables {
		t.touched = t.touched || used
		changed = t.changed(now, time.Duration(len(l.tables))) || changed
	}
	return changed
}

// changed is that of one of a number of tables.
func (t *watchedTable) changed(now time.Time, tables time.Duration) bool {
	info, err := t.look()
	if err != nil {
		return false
	}
	t.touched = t.touched || info != t.info
	pause := tables * idleShare * t.cost
	if t.touched {
		pause = tables * busyShare * t.cost
	}
	if now.Before(t.read.Add(pause)) {
		return false
	}
	sum, cost, err := t.measure(info)
	if err != nil {
		return false // it changes at this moment; the next look comes soon
	}
	changed := sum != t.sum
	t.info, t.sum, t.touched, t.read, t.cost = info, sum, false, now, cost
	return changed
}

// measure reads the rules and tells what of the processor's time that took.
func (t *watchedTable) measure(info tableInfo) (sum uint64, cost time.Duration, err error) {
	if info == (tableInfo{}) {
		return 0, 0, nil // there is no such table
	}
	runtime.LockOSThread() // whose time it is
	defer runtime.UnlockOSThread()
	begin, err := threadTime()
	if err != nil {
		return 0, 0, err
	}
	sum, err = t.readSum(info)
	end, timeErr := threadTime()
	return sum, end - begin, errors.Join(err, timeErr)
}

func threadTime() (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return time.Duration(now.Nano()), err
}
