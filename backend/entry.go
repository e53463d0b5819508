package backend

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
)

// Entry is one row of a kernel table that we own. Entries are comparable
// structs: two are the same row in the same condition if they are ==.
type Entry interface {
	// Key identifies the row: the kernel holds at most one Entry per Key.
	Key() Key
	// String is the row in the words of ip(8), bridge(8) and iptables(8).
	String() string
}

// Kind is a kernel table. Its order is the order of application: a row may
// depend on rows of smaller Kinds.
type Kind uint8

// The kinds. Routes come last: the kernel asks for the gateway's MAC address
// as soon as it may use a route.
const (
	KindSysctl Kind = iota
	KindLink
	KindAddr
	KindBridge
	KindChain
	KindJump
	KindSource
	KindFDB
	KindNeigh
	KindNexthop
	KindRoute
	KindGuard // drops what no Source allows, so it comes after these
)

func (k Kind) String() string {
	return [...]string{"sysctl", "link", "address", "bridge", "chain", "jump", "source", "fdb", "neighbour", "nexthop", "route", "guard"}[k]
}

// Kinds is a set of Kinds.
type Kinds uint16

// KindsOf is the set of the given kinds.
func KindsOf(kinds ...Kind) Kinds {
	var set Kinds
	for _, k := range kinds {
		set |= 1 << k
	}
	return set
}

// AllKinds is every kind. Firewall, Guards and Settings are those that the kernel
// keeps apart from the tables of rtnetlink(7), which is what Network is.
var (
	AllKinds = Kinds(1<<(KindGuard+1) - 1)
	Firewall = KindsOf(KindChain, KindJump)
	Guards   = KindsOf(KindSource, KindGuard)
	Settings = KindsOf(KindSysctl)
	Network  = AllKinds &^ Firewall &^ Guards &^ Settings
)

// Has reports whether k is in the set.
func (s Kinds) Has(k Kind) bool { return s&(1<<k) != 0 }

// Overlaps reports whether the sets share a kind.
func (s Kinds) Overlaps(other Kinds) bool { return s&other != 0 }

// Key identifies an Entry. It is small, because there is one for every row of a
// large cluster.
type Key struct {
	Name string // sysctl, device, or chain with its table

	id   [16]byte // an address, a MAC address or a number
	bits uint8    // of a prefix, or a place among rows of one kind
	Kind Kind
}

func addrKey(k Kind, name string, p netip.Prefix) Key {
	return Key{Kind: k, Name: name, bits: uint8(p.Bits()), id: p.Addr().As16()}
}

func (k Key) compare(l Key) int {
	return cmp.Or(
		cmp.Compare(k.Kind, l.Kind),
		bytes.Compare(k.id[:], l.id[:]),
		cmp.Compare(k.bits, l.bits),
		cmp.Compare(k.Name, l.Name),
	)
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads the six colon-separated hexadecimal numbers of an Ethernet
// address.
func ParseMAC(text string) (MAC, error) {
	var m MAC
	if len(text) != 17 {
		return m, fmt.Errorf("%q is not a MAC address such as 0a:58:0a:f4:01:02", text)
	}
	for i := range m {
		hi, ok1 := hex(text[3*i])
		lo, ok2 := hex(text[3*i+1])
		if !ok1 || !ok2 || i < 5 && text[3*i+2] != ':' {
			return m, fmt.Errorf("%q is not a MAC address such as 0a:58:0a:f4:01:02", text)
		}
		m[i] = hi<<4 | lo
	}
	return m, nil
}

func hex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// IsUnicast reports whether m can be one host's address: not a group's and not
// zero.
func (m MAC) IsUnicast() bool { return m != MAC{} && m[0]&1 == 0 }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
