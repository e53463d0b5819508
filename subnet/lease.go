package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lease says that a node holds a subnet, and how its pods are reached, for as
// long as the lease is renewed. Leases compare with ==.
type Lease struct {
	Node    string          // the node's name; empty in leases that flannel wrote
	Subnets [2]netip.Prefix // by Family; at least one is valid
	Addrs   [2]netip.Addr   // underlay addresses as peers see them, by Family
	Type    string          // Backend.Type
	Data    [2]string       // the backend's data for each Family: JSON, or empty
}

func (l Lease) String() string {
	names := make([]string, 0, 2)
	for _, s := range l.Subnets {
		if s.IsValid() {
			names = append(names, s.String())
		}
	}
	text := strings.Join(names, " and ")
	if l.Node != "" {
		text += " of node " + l.Node
	}
	return text
}

// AddrText lists the underlay addresses, for messages.
func (l Lease) AddrText() string {
	var texts []string
	for _, a := range l.Addrs {
		if a.IsValid() {
			texts = append(texts, a.String())
		}
	}
	return strings.Join(texts, " and ")
}

// Overlaps reports whether the two leases share an address in any family.
func (l Lease) Overlaps(m Lease) bool {
	for f := range l.Subnets {
		if l.Subnets[f].Overlaps(m.Subnets[f]) {
			return true
		}
	}
	return false
}

// SharesAddr reports whether the two leases have an underlay address in common.
func (l Lease) SharesAddr(m Lease) bool {
	for f, a := range l.Addrs {
		if a.IsValid() && a == m.Addrs[f] {
			return true
		}
	}
	return false
}

// Key is the lease's name below the subnets directory in etcd:
// 10.244.60.0-24, or 10.244.42.0-24&fd42:0:0:3::-64 with both families.
func (l Lease) Key() string {
	four := l.Subnets[IPv4]
	if !four.IsValid() {
		four = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	key := keyPart(four)
	if six := l.Subnets[IPv6]; six.IsValid() {
		key += "&" + keyPart(six)
	}
	return key
}

func keyPart(p netip.Prefix) string { return p.Addr().String() + "-" + strconv.Itoa(p.Bits()) }

// Bounds of what a lease says, far beyond what any has: others tell it in logs and on
// terminals.
const (
	keyMost   = 128
	valueMost = 4096
	nodeMost  = 253 // a name of the domain name system
)

// CheckNode returns an error if a name is not one that can be told.
func CheckNode(name string) error {
	if len(name) > nodeMost || strings.ContainsFunc(name, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return fmt.Errorf("%.64q is not a node's name: at most %d letters that can be printed", name, nodeMost)
	}
	return nil
}

// ParseKey reads what Key wrote.
func ParseKey(key string) ([2]netip.Prefix, error) {
	var subnets [2]netip.Prefix
	if len(key) > keyMost {
		return subnets, fmt.Errorf("%.64q... is too long for a subnet such as 10.244.60.0-24", key)
	}
	four, six, both := strings.Cut(key, "&")
	for i, part := range []string{four, six} {
		if i == 1 && !both {
			break
		}
		addr, length, ok := strings.Cut(part, "-")
		if !ok {
			return subnets, fmt.Errorf("%q is not a subnet such as 10.244.60.0-24", key)
		}
		p, err := netip.ParsePrefix(addr + "/" + length)
		switch {
		case err != nil:
			return subnets, fmt.Errorf("%q is not a subnet such as 10.244.60.0-24: %w", key, err)
		case FamilyOf(p.Addr()) != Family(i) || p.Addr().Is4In6():
			return subnets, fmt.Errorf("%q: %s is not an %s subnet", key, p, Family(i))
		case p != p.Masked():
			return subnets, fmt.Errorf("%q: %s has bits set behind its prefix length", key, p)
		}
		subnets[i] = p
	}
	if both && subnets[IPv4] == netip.PrefixFrom(netip.IPv4Unspecified(), 0) {
		subnets[IPv4] = netip.Prefix{} // how a lease of IPv6 alone is written
	}
	for _, s := range subnets {
		if s.IsValid() && s.Bits() == 0 {
			return subnets, fmt.Errorf("%q: %s is every address there is", key, s)
		}
	}
	// IPv6 can be written in many ways. Two keys of one subnet would be one lease
	// to us, of two nodes, and deleting one of them would be lost on us.
	if right := (Lease{Subnets: subnets}).Key(); key != right {
		return subnets, fmt.Errorf("the key of this subnet is %q, not %q", right, key)
	}
	return subnets, nil
}

// leaseValue is a Lease's value in etcd. The order of the fields, PublicIPv6
// that is always there and the backend's data that is left out when empty are
// flannel's. Node is ours; flannel ignores fields that it does not know.
type leaseValue struct {
	PublicIP      *netip.Addr
	PublicIPv6    *netip.Addr
	BackendType   string
	BackendData   json.RawMessage `json:",omitempty"`
	BackendV6Data json.RawMessage `json:",omitempty"`
	Node          string          `json:",omitempty"`
}

// Value is the lease's value in etcd.
func (l Lease) Value() string {
	v := leaseValue{
		BackendType:   l.Type,
		BackendData:   json.RawMessage(l.Data[IPv4]),
		BackendV6Data: json.RawMessage(l.Data[IPv6]),
		Node:          l.Node,
	}
	four := l.Addrs[IPv4]
	if !four.IsValid() {
		four = netip.IPv4Unspecified() // flannel's reader wants an IPv4 address here in any case
	}
	v.PublicIP = &four
	if six := l.Addrs[IPv6]; six.IsValid() {
		v.PublicIPv6 = &six
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("lease %s: backend data is not JSON: %v", l, err))
	}
	return string(text)
}

// ParseLease reads a lease from its key below the subnets directory and its
// value. It checks the form alone; what a lease means to others is for them.
func ParseLease(key string, value []byte) (Lease, error) {
	subnets, err := ParseKey(key)
	if err != nil {
		return Lease{}, err
	}
	if len(value) > valueMost {
		return Lease{}, fmt.Errorf("value of %s: it has %d bytes, and that of a lease %d at most", key, len(value), valueMost)
	}
	var v leaseValue
	if err := json.Unmarshal(value, &v); err != nil {
		return Lease{}, fmt.Errorf("value of %s: %w", key, err)
	}
	l := Lease{
		Node:    v.Node,
		Subnets: subnets,
		Type:    v.BackendType,
		Data:    [2]string{compact(v.BackendData), compact(v.BackendV6Data)},
	}
	for i, a := range []*netip.Addr{v.PublicIP, v.PublicIPv6} {
		if a == nil || !a.IsValid() || a.IsUnspecified() {
			continue
		}
		if FamilyOf(*a) != Family(i) || a.Is4In6() || a.Zone() != "" {
			return Lease{}, fmt.Errorf("value of %s: public address %s is not an %s address", key, a, Family(i))
		}
		l.Addrs[i] = *a
	}
	if !l.Addrs[IPv4].IsValid() && !l.Addrs[IPv6].IsValid() {
		return Lease{}, fmt.Errorf("value of %s: no public address", key)
	}
	if err := CheckNode(l.Node); err != nil {
		return Lease{}, fmt.Errorf("value of %s: Node: %w", key, err)
	}
	switch l.Type {
	case VXLAN:
		l.Type = VXLAN // one text for all leases
	case HostGW:
		l.Type = HostGW
	case "":
		return Lease{}, errors.New("value of " + key + ": no BackendType")
	}
	return l, nil
}

func compact(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	text, err := json.Marshal(raw) // Marshal compacts a RawMessage
	if err != nil {
		return string(raw)
	}
	return string(text)
}
