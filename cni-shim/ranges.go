package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"tulle/subnet"
)

// span is the addresses of one family that the pods of this node share.
type span struct {
	Bridge      netip.Prefix // the bridge's address and the length of the subnet
	First, Last netip.Addr   // of the pods, both included; the bridge's may lie between
}

// spans are those of the subnet file, within the range that the configuration
// gives; the zero span where the node has no subnet of the family.
func spans(c netconf, f subnet.File) ([2]span, error) {
	var all [2]span
	for family, s := range f.Subnets {
		if !s.IsValid() {
			continue
		}
		first, last := s.Masked().Addr().Next(), lastAddr(s)
		if s.Addr().Is4() {
			last = last.Prev() // the broadcast address
		}
		for _, end := range []struct {
			key string
			at  netip.Addr
			to  *netip.Addr
		}{{"rangeStart", c.RangeStart, &first}, {"rangeEnd", c.RangeEnd, &last}} {
			if !end.at.IsValid() || subnet.FamilyOf(end.at) != subnet.Family(family) {
				continue
			}
			if end.at.Less(first) || last.Less(end.at) {
				return all, coded(types.ErrInvalidNetworkConfig, fmt.Errorf(
					"ipam.%s: %s is not in the subnet %s that the subnet file %s gives this node's pods (%s to %s)",
					end.key, end.at, s.Masked(), c.SubnetFile, first, last))
			}
			*end.to = end.at
		}
		all[family] = span{s, first, last}
	}
	return all, nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// contains reports whether a pod can have the address.
func (s span) contains(a netip.Addr) bool {
	return s.Bridge.IsValid() && s.Bridge.Contains(a) && a != s.Bridge.Addr() && !a.Less(s.First) && !s.Last.Less(a)
}

// size is how many addresses pods can have.
func (s span) size() uint64 {
	if s.Last.Less(s.First) {
		return 0
	}
	first, last := s.First.As16(), s.Last.As16()
	if binary.BigEndian.Uint64(first[:8]) != binary.BigEndian.Uint64(last[:8]) {
		return math.MaxUint64
	}
	n := binary.BigEndian.Uint64(last[8:]) - binary.BigEndian.Uint64(first[8:])
	bridge := s.Bridge.Addr()
	if bridge.Less(s.First) || s.Last.Less(bridge) {
		if n == math.MaxUint64 {
			return n
		}
		n++
	}
	return n
}

// next is the first address after last that is free, round and round, so that
// an address is not used again while others are free; the zero Addr when none is.
func (s span) next(last netip.Addr, taken map[netip.Addr]bool) netip.Addr {
	a := last
	if !a.IsValid() || a.Less(s.First) || !a.Less(s.Last) {
		a = s.First
	} else {
		a = a.Next()
	}
	for start := a; ; {
		if s.contains(a) && !taken[a] {
			return a
		}
		if a = a.Next(); s.Last.Less(a) || !a.IsValid() {
			a = s.First
		}
		if a == start {
			return netip.Addr{}
		}
	}
}

// usage is how much of a span is reserved.
type usage struct {
	span
	used uint64
}

func (s span) usage(taken map[netip.Addr]bool) usage {
	u := usage{span: s}
	for a := range taken {
		if s.contains(a) {
			u.used++
		}
	}
	return u
}

func (u usage) full() bool { return u.used >= u.size() }

func (u usage) err(code uint, network, dir string) error {
	return types.NewError(code, fmt.Sprintf("no free address in %s", u.Bridge.Masked()),
		fmt.Sprintf("%d of %d are reserved by the pods of network %s on this node (%s); "+
			"move pods to other nodes, or give the nodes larger subnets (SubnetLen)", u.used, u.size(), network, dir))
}
