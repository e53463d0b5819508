package subnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Network is the operator's configuration as read from etcd: complete, with all
// defaults set, and valid. Networks compare with ==.
type Network struct {
	Pools   [2]Pool // by Family; at least one is valid
	Backend Backend
	// NonMasquerade are the destinations outside of the pods' network that see a
	// pod's own address.
	NonMasquerade Prefixes
}

// Backend names the way in which pod packets travel between nodes, and its
// options. Options that a Type does not know are zero.
type Backend struct {
	Type string // VXLAN or HostGW

	VNI           int  // VXLAN network identifier, 1 to 16777215
	Port          int  // UDP port, 1 to 65535
	MTU           int  // of packets between nodes, or 0: the underlay's
	GBP           bool // VXLAN group based policy extension
	Learning      bool // let the device learn VTEPs from what it receives
	DirectRouting bool // plain routes to nodes on the same link
	IPv6Underlay  bool // packets between nodes travel over IPv6, whatever else nodes have
}

// The Backend.Types.
const (
	VXLAN  = "vxlan"   // in VXLAN
	HostGW = "host-gw" // by plain routes, for nodes on one link
)

// Defaults of the vxlan backend. The port is the Linux kernel's, not the 4789
// that IANA gave later, because that is what existing clusters use.
const (
	DefaultVNI  = 1
	DefaultPort = 8472
)

// Underlay is the families in which packets may travel between nodes, the best
// first. That both ends take the same is a matter of the Network, not of a node.
// Nodes without a wish in it do as flannel does: the pods' family, and IPv4
// where there are two.
func (n Network) Underlay() []Family {
	switch {
	case n.Backend.IPv6Underlay:
		return []Family{IPv6}
	case n.Pools[IPv4].IsValid():
		return []Family{IPv4, IPv6}
	}
	return []Family{IPv6, IPv4}
}

// Contains reports whether every subnet of the lease belongs to this Network:
// inside the pool's prefix and not larger than half of it. A lease made under
// an earlier SubnetLen may have another length and is still good.
func (n Network) Contains(l Lease) bool {
	some := false
	for f, s := range l.Subnets {
		if !s.IsValid() {
			continue
		}
		p := n.Pools[f]
		if !p.IsValid() || s != s.Masked() || s.Bits() <= p.Prefix.Bits() || !p.Prefix.Contains(s.Addr()) {
			return false
		}
		some = true
	}
	return some
}

// Prefixes is those of all pods.
func (n Network) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range n.Pools {
		if p.IsValid() {
			all = append(all, p.Prefix)
		}
	}
	return all
}

// Restrict is the lease without what it says of a family that this Network does
// not use: nodes come to a Network with another family one after another.
func (n Network) Restrict(l Lease) Lease {
	for f, p := range n.Pools {
		if !p.IsValid() {
			l.Subnets[f] = netip.Prefix{}
		}
	}
	return l
}

// Has reports whether an address is one of the pods' network.
func (n Network) Has(a netip.Addr) bool {
	for _, p := range n.Pools {
		if p.IsValid() && p.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// poolFields are the names of one family's fields in the configuration.
type poolFields struct{ prefix, length, min, max string }

var poolNames = [2]poolFields{
	{"Network", "SubnetLen", "SubnetMin", "SubnetMax"},
	{"IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"},
}

// ParseNetwork reads the JSON form of a Network. Keys are matched without regard
// to case and unknown keys are ignored. The error joins all faults, each one
// beginning with the name of its field.
func ParseNetwork(text []byte) (Network, error) {
	top, err := parseFields(text, "")
	if err != nil {
		return Network{}, err
	}
	var n Network
	enabled := [2]bool{field(top, "EnableIPv4", true), field(top, "EnableIPv6", false)}
	for i, names := range poolNames {
		p := Pool{
			Prefix: field(top, names.prefix, netip.Prefix{}),
			Len:    field(top, names.length, 0),
			Min:    netip.PrefixFrom(field(top, names.min, netip.Addr{}), 0),
			Max:    netip.PrefixFrom(field(top, names.max, netip.Addr{}), 0),
		}
		f := Family(i)
		switch {
		case !enabled[i]:
			continue
		case top.faulty(names.prefix), top.faulty(names.length):
			continue // told already
		case !p.Prefix.IsValid():
			top.fault(names.prefix, "is missing; give the %s prefix to share out among the nodes", f)
			continue
		case FamilyOf(p.Prefix.Addr()) != f || p.Prefix.Addr().Is4In6():
			top.fault(names.prefix, "%s is not an %s prefix", p.Prefix, f)
			continue
		}
		if err := p.check(names); err != nil {
			top.faults = append(top.faults, err)
		}
		n.Pools[i] = p
	}
	if !enabled[IPv4] && !enabled[IPv6] {
		top.fault("EnableIPv4", "is false and EnableIPv6 is not true: no family is left")
	}
	n.Backend = parseBackend(top)
	n.NonMasquerade = parsePrefixes(top, "NonMasquerade")
	if len(top.faults) > 0 {
		return Network{}, errors.Join(top.faults...)
	}
	return n, nil
}

func parseBackend(top *fields) Backend {
	raw := field(top, "Backend", json.RawMessage("{}"))
	opts, err := parseFields(raw, "Backend.")
	if err != nil {
		top.faults = append(top.faults, err)
		return Backend{}
	}
	b := Backend{
		Type: strings.ToLower(field(opts, "Type", VXLAN)),
		MTU:  field(opts, "MTU", 0),
	}
	if b.MTU != 0 && (b.MTU < 576 || b.MTU > 65485) {
		opts.fault("MTU", "%d is out of range: 576 to 65485, or 0 for that of the underlay", b.MTU)
	}
	switch b.Type {
	case HostGW:
	case VXLAN:
		b.parseVXLAN(opts)
	default:
		opts.fault("Type", "%q is not a backend of tulle; use %q or %q", b.Type, VXLAN, HostGW)
		b.parseVXLAN(opts) // to tell what else is wrong: it is what most have
	}
	top.faults = append(top.faults, opts.faults...)
	return b
}

// parseVXLAN reads the options of the Type VXLAN.
func (b *Backend) parseVXLAN(opts *fields) {
	b.VNI = field(opts, "VNI", DefaultVNI)
	b.Port = field(opts, "Port", DefaultPort)
	b.GBP = field(opts, "GBP", false)
	b.Learning = field(opts, "Learning", false)
	b.DirectRouting = field(opts, "DirectRouting", false)
	b.IPv6Underlay = field(opts, "IPv6Underlay", false)
	if b.Port == 0 {
		b.Port = DefaultPort
	}
	if b.VNI < 1 || b.VNI > 1<<24-1 {
		opts.fault("VNI", "%d is not a VXLAN network identifier: 1 to %d", b.VNI, 1<<24-1)
	}
	if b.Port < 0 || b.Port > 65535 {
		opts.fault("Port", "%d is not a UDP port: 1 to 65535, or 0 for %d", b.Port, DefaultPort)
	}
}

// json is what stands in the configuration: the options that the Type knows.
func (b Backend) json() any {
	if b.Type == HostGW {
		return struct {
			Type string
			MTU  int
		}{b.Type, b.MTU}
	}
	return b
}

// JSON is the canonical text of the Network, as `tullectl network set` stores
// it: defaults that depend on others are written out, so that a reader sees
// what is in force. ParseNetwork(n.JSON()) is n.
func (n Network) JSON() []byte {
	var b bytes.Buffer
	put := func(key string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err) // only strings, numbers, booleans, prefixes and structs of these come here
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", key, text)
	}
	put("EnableIPv4", n.Pools[IPv4].IsValid())
	put("EnableIPv6", n.Pools[IPv6].IsValid())
	for i, p := range n.Pools {
		if !p.IsValid() {
			continue
		}
		put(poolNames[i].prefix, p.Prefix.String())
		put(poolNames[i].length, p.Len)
		put(poolNames[i].min, p.Min.Addr().String())
		put(poolNames[i].max, p.Max.Addr().String())
	}
	if n.NonMasquerade != "" {
		put("NonMasquerade", slices.Collect(n.NonMasquerade.All()))
	}
	put("Backend", n.Backend.json())
	return slices.Concat([]byte("{"), b.Bytes(), []byte("}"))
}
