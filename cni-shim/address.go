package main

import (
	"bytes"
	"hash/fnv"
	"net"
	"net/netip"
)

// address is what a pod gets in one family.
type address struct {
	Prefix  netip.Prefix // the pod's address and the length of the node's subnet
	Gateway netip.Addr   // the bridge

	// Announce says that neighbours may know the address with another MAC. As a rule
	// it follows from the address, and what they know of an earlier pod is right.
	Announce bool
}

// macOf is the MAC of the interface that holds the address. It follows from the
// address, so that the bridge keeps its MAC whatever its ports are, and that a
// neighbour entry for a pod that is gone is right for the next pod with its address.
// The last four bytes tell the addresses of a subnet apart; where it is of IPv6 and somebody
// asked for an address beyond the first 2^32, a digest does. 0a marks a MAC that is locally
// administered.
func macOf(p netip.Prefix) net.HardwareAddr {
	own, all := p.Addr().AsSlice(), p.Masked().Addr().AsSlice()
	low := len(own) - 4
	if bytes.Equal(own[:low], all[:low]) {
		return append(net.HardwareAddr{0x0a, 0x58}, own[low:]...)
	}
	h := fnv.New32a()
	h.Write(own)
	return h.Sum(net.HardwareAddr{0x0a, 0x59})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the other way round; the zero Prefix when n is nil or no prefix.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a.Unmap(), bits)
}
