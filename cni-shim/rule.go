package main

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// Registers of nftables: register 1 is the first of sixteen that hold four bytes
// each, counted from reg32; a concatenation lies in registers that follow one
// another.
const (
	reg1  = unix.NFT_REG_1
	reg32 = unix.NFT_REG32_00
)

// header tells where a family's packets have their addresses.
var header = [2]struct{ src, dst, size uint32 }{{12, 16, 4}, {8, 24, 16}}

func load(family subnet.Family, offset, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: header[family].size}
}

// mapRule is
//
//	ip daddr . meta l4proto . th dport in hosts: dnat there
//	fib daddr type local; meta l4proto . th dport in ports: dnat there
func mapRule(family subnet.Family, set string) []expr.Any {
	words := header[family].size / 4 // registers that an address takes
	rule := []expr.Any{
		&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.RTN_LOCAL, 0, 0, 0}},
	}
	key := uint32(0)
	if set == "hosts" {
		rule, key = []expr.Any{load(family, header[family].dst, reg1)}, words
	}
	return append(rule,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg32 + key},
		&expr.Payload{DestRegister: reg32 + key + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg32, DestRegister: reg1, IsDestRegSet: true, SetName: set},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: [2]uint32{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}[family],
			RegAddrMin: reg1, RegProtoMin: reg32 + words, Specified: true,
		},
	)
}

// hairpinRule is
//
//	ip saddr . ip daddr in hairpin: masquerade
//
// Without it the pod would answer itself, or 127.0.0.1, directly.
func hairpinRule(family subnet.Family) []expr.Any {
	return []expr.Any{
		load(family, header[family].src, reg1),
		load(family, header[family].dst, reg32+header[family].size/4),
		&expr.Lookup{SourceRegister: reg1, SetName: "hairpin"},
		&expr.Masq{},
	}
}

// guardRule is
//
//	iifname != "lo" ip daddr 127.0.0.0/8 drop
//
// The bridge routes 127.0.0.1, so that the node's own programs reach a mapped port
// there. Pods and neighbours must not come in by the same way.
func guardRule() []expr.Any {
	lo := make([]byte, unix.IFNAMSIZ)
	copy(lo, "lo")
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: lo},
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: header[subnet.IPv4].dst, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{127}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}
