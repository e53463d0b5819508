package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// xtables is how the kernel's legacy tables of one family are spoken to and
// written down: linux/netfilter_ipv4/ip_tables.h and its sister for IPv6.
type xtables struct {
	family, level int
	names         string // path of the list of its tables
	// The offset in an entry of target_offset, of the next entry's offset behind
	// it, and where an entry's matches begin. What is between is the kernel's:
	// marks of its own and counters.
	target, matches int
}

var legacyFamilies = [2]xtables{
	subnet.IPv4: {unix.AF_INET, unix.SOL_IP, "/proc/thread-self/net/ip_tables_names", 88, 112},
	subnet.IPv6: {unix.AF_INET6, unix.SOL_IPV6, "/proc/thread-self/net/ip6_tables_names", 140, 168},
}

// Socket options of both families: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES.
const (
	getInfo    = 64
	getEntries = 65
)

// legacyTable is one table of one family.
type legacyTable struct {
	xtables
	names  *tableNames
	socket int // raw, of the family
	name   string
	jumps  []backend.Jump // in it
}

// tableInfo is what the kernel tells of a table without its rules, struct
// ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries,
// size. It is zero while the table is not there.
type tableInfo [84]byte

func (i *tableInfo) word(at int) int { return int(binary.NativeEndian.Uint32(i[at:])) }
func (i *tableInfo) entries() int    { return i.word(76) }
func (i *tableInfo) size() int       { return i.word(80) }

// builtin is where the rules of a built-in chain begin, and its last one.
func (i *tableInfo) builtin(chain string) (first, last int, ok bool) {
	hooks := []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} // NF_INET_*
	for hook, name := range hooks {
		if name == chain && i.word(32)&(1<<hook) != 0 {
			return i.word(36 + 4*hook), i.word(56 + 4*hook), true
		}
	}
	return 0, 0, false
}

// look asks for what there is about the table.
func (t *legacyTable) look() (tableInfo, error) {
	var info tableInfo
	// Asking for a table makes it, so only one that is there is asked for.
	if !t.names.has(t.name) {
		return info, nil
	}
	copy(info[:31], t.name)
	err := getsockopt(t.socket, t.level, getInfo, info[:])
	return info, err
}

// tableNames is the list of a family's tables, kept open: it is looked at often.
type tableNames struct {
	path string
	file *os.File // nil while it is not there
}

// has reports whether the list has a name.
func (n *tableNames) has(name string) bool {
	var text [256]byte
	for range 2 {
		if n.file == nil {
			var err error
			if n.file, err = os.Open(n.path); err != nil {
				n.file = nil
				return false
			}
		}
		length, err := n.file.ReadAt(text[:], 0)
		if err == nil || errors.Is(err, io.EOF) {
			return bytes.Contains(append([]byte{'\n'}, text[:length]...), []byte("\n"+name+"\n"))
		}
		n.close() // the kernel has unloaded it, and may have loaded it again
	}
	return false
}

func (n *tableNames) close() {
	if n.file != nil {
		n.file.Close()
		n.file = nil
	}
}

// errTableChanged says that a table has another size than it had a moment ago.
var errTableChanged = errors.New("the table has changed")

// readSum reads the table's rules, of which info was told, and makes a number of
// those that concern us.
func (t *legacyTable) readSum(info tableInfo) (uint64, error) {
	// struct ipt_get_entries: name[32], size, padding, entries. There may be many
	// megabytes of them, which are not to stay.
	const header = 40
	answer, err := unix.Mmap(-1, 0, header+info.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Munmap(answer) }()
	copy(answer[:31], t.name)
	binary.NativeEndian.PutUint32(answer[32:], uint32(info.size()))
	err = getsockopt(t.socket, t.level, getEntries, answer)
	if errors.Is(err, unix.EAGAIN) {
		return 0, errTableChanged
	}
	return t.sum(info, answer[header:]), err
}

var digestSeed = maphash.MakeSeed()

// sum is a number for the rules in chains of ours and in those that lead to them.
// What else is in the table, and counters, do not change it.
func (t *legacyTable) sum(info tableInfo, rules []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	for _, j := range t.jumps {
		if first, last, ok := info.builtin(j.From); ok {
			for at := first; at <= last && t.whole(rules, at); at += t.next(rules, at) {
				t.hash(&h, rules, at)
			}
		}
	}
	// A chain that is not built in begins with an entry that names it and ends
	// where the next one begins.
	ours := false
	for at := 0; t.whole(rules, at); at += t.next(rules, at) {
		if chain, ok := t.head(rules, at); ok {
			ours = t.leadsTo(chain)
			if ours {
				_, _ = h.Write(chain)
			}
		} else if ours {
			t.hash(&h, rules, at)
		}
	}
	return h.Sum64()
}

func (t *legacyTable) leadsTo(chain []byte) bool {
	for _, j := range t.jumps {
		if j.To == string(chain) {
			return true
		}
	}
	return false
}

// Of struct xt_entry_target: target_size, name[29], revision; then comes what
// the target needs.
const (
	targetName = 2
	targetData = 32
	errorName  = 30 // bytes
)

// whole reports whether there is an entry at an offset.
func (t *legacyTable) whole(rules []byte, at int) bool {
	if at < 0 || at+t.matches+targetData > len(rules) {
		return false
	}
	target, next := t.offset(rules, at), t.next(rules, at)
	return target >= t.matches && next >= target+targetData && at+next <= len(rules)
}

// offset is where an entry's target begins, seen from the entry.
func (t *legacyTable) offset(rules []byte, at int) int {
	return int(binary.NativeEndian.Uint16(rules[at+t.target:]))
}

// next is where the next entry begins, seen from this one.
func (t *legacyTable) next(rules []byte, at int) int {
	return int(binary.NativeEndian.Uint16(rules[at+t.target+2:]))
}

// head is the name of the chain that begins with an entry, if one does.
func (t *legacyTable) head(rules []byte, at int) ([]byte, bool) {
	target := rules[at+t.offset(rules, at) : at+t.next(rules, at)]
	if len(target) < targetData+errorName || !bytes.HasPrefix(target[targetName:], []byte("ERROR\x00")) {
		return nil, false
	}
	name, _, _ := bytes.Cut(target[targetData:targetData+errorName], []byte{0})
	return name, true
}

// hash adds an entry: what it matches, and where it leads to.
func (t *legacyTable) hash(h *maphash.Hash, rules []byte, at int) {
	entry := rules[at : at+t.next(rules, at)]
	target := entry[t.offset(rules, at):]
	_, _ = h.Write(entry[:t.target])
	_, _ = h.Write(entry[t.matches:t.offset(rules, at)])
	// A jump is the offset of another chain's first entry, which changes with all
	// that comes before it, so its name counts. The standard target has no name
	// and holds that offset, or a verdict, which is negative.
	if len(target) >= targetData+4 && target[targetName] == 0 {
		if to := int(int32(binary.NativeEndian.Uint32(target[targetData:]))); to >= 0 {
			const align = 8
			head := to - t.matches - (targetData+errorName+align-1)/align*align
			if t.whole(rules, head) {
				name, _ := t.head(rules, head)
				_, _ = h.Write(name)
			}
			return
		}
	}
	_, _ = h.Write(target)
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
