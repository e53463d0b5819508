package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// legacyPeriod is how often legacy tables are looked at, where there are any.
const legacyPeriod = 500 * time.Millisecond

// legacyTables are the tables of iptables as it was before nftables.
type legacyTables []legacyTable

// WatchLegacyRules tells l about changes of legacy tables until ctx ends, and
// returns the error of ctx then. The kernel tells nothing about these, so it
// looks twice a second at how many rules they have, which costs a system call.
// A rule that is replaced by another of the same size is not seen.
func (k *Kernel) WatchLegacyRules(ctx context.Context, l Listener) error {
	tables, err := openLegacy(k.tables.jumps)
	if err != nil {
		return fmt.Errorf("open legacy tables: %w", err)
	}
	defer tables.close()
	tick := time.NewTicker(legacyPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if tables.changed() {
				l.Wake(backend.Firewall)
			}
		}
	}
}

// legacyTable is one table of one family.
type legacyTable struct {
	socket int // raw, of the family
	level  int // SOL_IP or SOL_IPV6
	names  string
	name   string
	last   tableSize
}

// tableSize is what the kernel tells of a table without reading it.
type tableSize struct{ entries, bytes uint32 }

func openLegacy(jumps []backend.Jump) (legacyTables, error) {
	var l legacyTables
	for _, j := range jumps {
		family, level, names := unix.AF_INET, unix.SOL_IP, "/proc/thread-self/net/ip_tables_names"
		if j.Family == subnet.IPv6 {
			family, level, names = unix.AF_INET6, unix.SOL_IPV6, "/proc/thread-self/net/ip6_tables_names"
		}
		socket, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			l.close()
			return nil, err
		}
		t := legacyTable{socket: socket, level: level, names: names, name: j.Table}
		t.changed() // from now on
		l = append(l, t)
	}
	return l, nil
}

func (l legacyTables) close() {
	for _, t := range l {
		unix.Close(t.socket)
	}
}

func (l legacyTables) changed() bool {
	changed := false
	for i := range l {
		changed = l[i].changed() || changed
	}
	return changed
}

// changed reports whether the table's size is another than last time.
func (t *legacyTable) changed() bool {
	var now tableSize
	// Asking for a table makes it, so only those that are there are asked for.
	if names, err := os.ReadFile(t.names); err == nil && hasLine(string(names), t.name) {
		now, err = t.size()
		if err != nil {
			return false
		}
	}
	changed := now != t.last
	t.last = now
	return changed
}

func hasLine(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimSpace(l) == line {
			return true
		}
	}
	return false
}

// size asks with IPT_SO_GET_INFO or IP6T_SO_GET_INFO, which have one number.
func (t *legacyTable) size() (tableSize, error) {
	const getInfo = 64
	// struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5],
	// num_entries, size.
	var info [84]byte
	copy(info[:31], t.name)
	if err := getsockopt(t.socket, t.level, getInfo, info[:]); err != nil {
		return tableSize{}, err
	}
	return tableSize{binary.NativeEndian.Uint32(info[76:]), binary.NativeEndian.Uint32(info[80:])}, nil
}

func getsockopt(fd, level, name int, value []byte) error {
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
