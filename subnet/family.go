package subnet

import "net/netip"

// Family is an IP address family. It indexes the two-element arrays in this
// package, so that one loop serves IPv4 and IPv6 alike.
type Family int

// The families, in the order in which they appear in keys, files and arrays.
const (
	IPv4 Family = iota
	IPv6
)

// Families lists both families in order.
var Families = [2]Family{IPv4, IPv6}

// FamilyOf returns the family of a valid address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// IsHost reports whether a valid address can be that of one host, as others reach it.
func IsHost(a netip.Addr) bool {
	return !a.IsLoopback() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !a.Is4In6() && a.Zone() == "" &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Bits is the length of an address in bits.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// Gateway is the address by which other nodes' routes reach a subnet: its
// first, held by the VXLAN device of the node that leases it.
func Gateway(subnet netip.Prefix) netip.Addr {
	return subnet.Masked().Addr()
}

// Bridge is the address of the pod bridge in a subnet, its second: the pods'
// default gateway.
func Bridge(subnet netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(Gateway(subnet).Next(), subnet.Bits())
}
