package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// Names in the table of a Guard. The counters live as long as the table, however
// often the rules are replaced.
const (
	inputChain   = "input"
	vxlanChain   = "vxlan"
	unknownVTEP  = "unknown-vtep"
	wrongSource  = "wrong-source"
	hookPriority = -10 // before the filters of others, whose ACCEPT is no answer to us
)

// Where things are behind the UDP header's begin: 8 bytes of UDP, 8 of VXLAN, 14
// of Ethernet, and then the pod's packet. A VLAN tag has no business there.
const (
	vniOffset       = 8 + 4
	etherTypeOffset = 8 + 8 + 12
	innerOffset     = 8 + 8 + 14
)

// ipHeader is what differs between the families.
type ipHeader struct {
	proto     byte // of netfilter
	etherType uint16
	source    int // offset of the source address
}

var ipHeaders = [2]ipHeader{
	subnet.IPv4: {unix.NFPROTO_IPV4, unix.ETH_P_IP, 12},
	subnet.IPv6: {unix.NFPROTO_IPV6, unix.ETH_P_IPV6, 8},
}

// nftChain is a chain of nftables with all its rules.
type nftChain struct {
	name  string
	hook  body // nil: others jump there
	rules []nftRule
}

// nftRule is a list of expressions, as `nft --debug=netlink` prints them.
type nftRule []nftExpr

type nftExpr struct {
	name string
	data body
}

// guardChains are the rules of a Guard.
//
// A rule does not match where a packet ends before what the rule looks at. So the
// input chain picks what is for the VXLAN port, and what is too short for the rules
// of the other falls through to its end and is dropped. That holds for the first
// fragment of an IPv6 packet, too, which may come here before the packet is put
// together; its other fragments pass and are of no use without the first.
//
// What carries neither IPv4 nor IPv6 is dropped as well. Neighbours in the overlay
// are permanent, so that no peer asks by ARP, and an answer to a question that
// nobody asked is an attack.
func guardChains(g backend.Guard) []nftChain {
	outer := ipHeaders[g.VTEPs]
	vteps := addrSet{vteps: g.VTEPs}
	rules := []nftRule{
		{loadTransport(vniOffset, 3, reg1), compare(unix.NFT_CMP_NEQ, binary.BigEndian.AppendUint32(nil, uint32(g.VNI))[1:]...), verdict(verdictAccept, "")},
		{meta(unix.NFT_META_NFPROTO), compare(unix.NFT_CMP_EQ, outer.proto), loadSource(unix.NFT_PAYLOAD_NETWORK_HEADER, outer.source, g.VTEPs, reg1), lookup(vteps, false), count(unknownVTEP), verdict(verdictDrop, "")},
	}
	for _, f := range subnet.Families {
		if g.Mode != backend.GuardStrict || g.Lens[f] == 0 {
			continue
		}
		inner := ipHeaders[f]
		for _, set := range []addrSet{{g.VTEPs, f, g.Lens[f]}, {g.VTEPs, f, oddLen}} {
			rule := nftRule{
				loadTransport(etherTypeOffset, 2, reg1), compare(unix.NFT_CMP_EQ, binary.BigEndian.AppendUint16(nil, inner.etherType)...),
				meta(unix.NFT_META_NFPROTO), compare(unix.NFT_CMP_EQ, outer.proto),
				loadSource(unix.NFT_PAYLOAD_NETWORK_HEADER, outer.source, g.VTEPs, reg1),
				loadSource(unix.NFT_PAYLOAD_TRANSPORT_HEADER, innerOffset+inner.source, f, behind(g.VTEPs)),
			}
			if set.len != oddLen {
				rule = append(rule, mask(behind(g.VTEPs), f, set.len))
			}
			rules = append(rules, append(rule, lookup(set, true), verdict(verdictAccept, "")))
		}
	}
	if g.Mode == backend.GuardStrict {
		rules = append(rules, nftRule{count(wrongSource), verdict(verdictDrop, "")})
	}
	return []nftChain{
		{name: vxlanChain, rules: rules},
		{name: inputChain, hook: hook("filter", unix.NF_INET_LOCAL_IN, hookPriority), rules: []nftRule{{
			meta(unix.NFT_META_NFPROTO), compare(unix.NFT_CMP_EQ, outer.proto),
			meta(unix.NFT_META_L4PROTO), compare(unix.NFT_CMP_EQ, unix.IPPROTO_UDP),
			loadTransport(2, 2, reg1), compare(unix.NFT_CMP_EQ, binary.BigEndian.AppendUint16(nil, uint16(g.Port))...),
			verdict(verdictGoto, vxlanChain),
		}}},
	}
}

// guardSets are those that a Guard's rules look at.
func guardSets(g backend.Guard) []addrSet {
	sets := []addrSet{{vteps: g.VTEPs}}
	for _, f := range subnet.Families {
		if g.Lens[f] != 0 {
			sets = append(sets, addrSet{g.VTEPs, f, g.Lens[f]}, addrSet{g.VTEPs, f, oddLen})
		}
	}
	return sets
}

// define is to create the chain in a table.
func (c nftChain) define(table string) body { return append(chainRef(table, c.name), c.hook...) }

// set is to make a chain of a table what it should be. One that is there is emptied,
// and one with a hook made again, because its hook can't be changed.
func (t *transaction) set(table string, c nftChain) {
	t.add(unix.NFT_MSG_NEWCHAIN, chainRef(table, c.name))
	t.remove(unix.NFT_MSG_DELRULE, ruleRef(table, c.name))
	if c.hook != nil {
		t.remove(unix.NFT_MSG_DELCHAIN, chainRef(table, c.name))
		t.add(unix.NFT_MSG_NEWCHAIN, c.define(table))
	}
	for _, r := range c.rules {
		t.add(unix.NFT_MSG_NEWRULE, ruleRef(table, c.name).put(unix.NFTA_RULE_EXPRESSIONS, r.encode()))
	}
}

// wake is to end that a table sleeps, which somebody may have made it do. Linux does
// not wake it up in one transaction with changes of its hooks.
func (t *transaction) wake(table string) {
	t.add(unix.NFT_MSG_NEWTABLE, body(nil).text(unix.NFTA_TABLE_NAME, table).number(unix.NFTA_TABLE_FLAGS, 0))
}

const (
	exprName = 1 // NFTA_EXPR_NAME
	exprData = 2 // NFTA_EXPR_DATA
)

func (r nftRule) encode() body {
	var list body
	for _, e := range r {
		list = list.put(nftaListElem, body(nil).text(exprName, e.name).put(exprData, e.data))
	}
	return list
}

// is reports whether a dumped rule does what r does.
func (r nftRule) is(dumped body) bool {
	i := 0
	for _, e := range dumped.all() {
		if i == len(r) || e.string(exprName) != r[i].name || !e.get(exprData).holds(r[i].data) {
			return false
		}
		i++
	}
	return i == len(r)
}

// Registers of the nftables machine: the first, which has 16 bytes, and what is
// behind an address at its begin, where the second part of a key has to be.
const reg1 = unix.NFT_REG_1

func behind(f subnet.Family) uint32 {
	if f == subnet.IPv4 {
		return unix.NFT_REG32_00 + 1
	}
	return unix.NFT_REG_2
}

func load(base uint32, offset, size int, to uint32) nftExpr {
	return nftExpr{"payload", body(nil).number(unix.NFTA_PAYLOAD_DREG, to).number(unix.NFTA_PAYLOAD_BASE, base).
		number(unix.NFTA_PAYLOAD_OFFSET, uint32(offset)).number(unix.NFTA_PAYLOAD_LEN, uint32(size))}
}

func loadTransport(offset, size int, to uint32) nftExpr {
	return load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, size, to)
}

func loadSource(base uint32, offset int, f subnet.Family, to uint32) nftExpr {
	return load(base, offset, f.Bits()/8, to)
}

func meta(key uint32) nftExpr {
	return nftExpr{"meta", body(nil).number(unix.NFTA_META_DREG, reg1).number(unix.NFTA_META_KEY, key)}
}

func compare(op uint32, value ...byte) nftExpr {
	return nftExpr{"cmp", body(nil).number(unix.NFTA_CMP_SREG, reg1).number(unix.NFTA_CMP_OP, op).
		put(unix.NFTA_CMP_DATA, body(nil).put(unix.NFTA_DATA_VALUE, value))}
}

// mask leaves the first bits of an address.
func mask(reg uint32, f subnet.Family, bits int) nftExpr {
	keep := make([]byte, f.Bits()/8)
	for i := range bits {
		keep[i/8] |= 0x80 >> (i % 8)
	}
	return maskBytes(reg, keep)
}

// maskBytes leaves some bits.
func maskBytes(reg uint32, keep []byte) nftExpr {
	return nftExpr{"bitwise", body(nil).number(unix.NFTA_BITWISE_SREG, reg).number(unix.NFTA_BITWISE_DREG, reg).
		number(unix.NFTA_BITWISE_LEN, uint32(len(keep))).
		put(unix.NFTA_BITWISE_MASK, body(nil).put(unix.NFTA_DATA_VALUE, keep)).
		put(unix.NFTA_BITWISE_XOR, body(nil).put(unix.NFTA_DATA_VALUE, make([]byte, len(keep))))}
}

// lookup goes on if what the registers hold is in the set, or if it is not.
func lookup(s addrSet, in bool) nftExpr {
	const inverted = 1 // NFT_LOOKUP_F_INV
	flags := uint32(inverted)
	if in {
		flags = 0
	}
	return nftExpr{"lookup", body(nil).text(unix.NFTA_LOOKUP_SET, s.name()).number(unix.NFTA_LOOKUP_SREG, reg1).
		number(unix.NFTA_LOOKUP_FLAGS, flags)}
}

func count(counter string) nftExpr {
	return nftExpr{"objref", body(nil).number(unix.NFTA_OBJREF_IMM_TYPE, unix.NFT_OBJECT_COUNTER).text(unix.NFTA_OBJREF_IMM_NAME, counter)}
}

// Verdicts of netfilter (NF_DROP, NF_ACCEPT) and of nftables (NFT_JUMP and so on).
const (
	verdictDrop   = 0
	verdictAccept = 1
	verdictJump   = 0xfffffffd
	verdictGoto   = 0xfffffffc
	verdictReturn = 0xfffffffb
)

func verdict(code uint32, chain string) nftExpr {
	v := body(nil).number(unix.NFTA_VERDICT_CODE, code)
	if chain != "" {
		v = v.text(unix.NFTA_VERDICT_CHAIN, chain)
	}
	return nftExpr{"immediate", body(nil).number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT).
		put(unix.NFTA_IMMEDIATE_DATA, body(nil).put(unix.NFTA_DATA_VERDICT, v))}
}
