package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// Flags of masquerading (NF_NAT_RANGE_PROTO_RANDOM_FULLY).
const randomFully = 1 << 4

// exprs is a rule for packets of a family. In a table for both it says which it
// means. It has a counter, as rules of iptables do.
func exprs(r backend.Rule, f subnet.Family, proto nfgenmsg) nftRule {
	e := only(f, proto)
	e = append(e, matchAddr(ipHeaders[f].source, f, r.Src, r.NotSrc)...)
	e = append(e, matchAddr(ipHeaders[f].source+f.Bits()/8, f, r.Dst, r.NotDst)...)
	if r.Port != 0 {
		e = append(e, meta(unix.NFT_META_L4PROTO), compare(unix.NFT_CMP_EQ, unix.IPPROTO_UDP),
			loadTransport(2, 2, reg1), compare(unix.NFT_CMP_EQ, binary.BigEndian.AppendUint16(nil, r.Port)...))
	}
	if r.Mark != 0 {
		bits := binary.NativeEndian.AppendUint32(nil, r.Mark)
		e = append(e, meta(unix.NFT_META_MARK), maskBytes(reg1, bits), compare(unix.NFT_CMP_EQ, bits...))
	}
	e = append(e, counter())
	switch r.Verdict {
	case backend.Accept:
		return append(e, verdict(verdictAccept, ""))
	case backend.Return:
		return append(e, verdict(verdictReturn, ""))
	case backend.Masquerade:
		return append(e, nftExpr{"masq", body(nil).number(unix.NFTA_MASQ_FLAGS, randomFully)})
	default:
		return append(e, nftExpr{"notrack", nil})
	}
}

// jumpExprs is the rule that leads packets of a family to another chain.
func jumpExprs(to string, f subnet.Family, proto nfgenmsg) nftRule {
	return append(only(f, proto), counter(), verdict(verdictJump, to))
}

// only matches a family in a table for both.
func only(f subnet.Family, proto nfgenmsg) nftRule {
	if proto != inet {
		return nil
	}
	return nftRule{meta(unix.NFT_META_NFPROTO), compare(unix.NFT_CMP_EQ, ipHeaders[f].proto)}
}

// matchAddr matches an address of the IP header.
func matchAddr(offset int, f subnet.Family, p netip.Prefix, not bool) nftRule {
	if !p.IsValid() {
		return nil
	}
	op := uint32(unix.NFT_CMP_EQ)
	if not {
		op = unix.NFT_CMP_NEQ
	}
	addr := p.Addr().AsSlice()
	// A prefix of whole bytes is those bytes, as nft(8) and iptables have it.
	if p.Bits()%8 == 0 && p.Bits() > 0 {
		addr = addr[:p.Bits()/8]
		return nftRule{load(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, len(addr), reg1), compare(op, addr...)}
	}
	return nftRule{load(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, len(addr), reg1), mask(reg1, f, p.Bits()), compare(op, addr...)}
}

func counter() nftExpr { return nftExpr{"counter", nil} }

// endsAll reports whether a dumped rule lets no packet go past it, and is silent on
// what else it does.
func endsAll(dumped body) bool {
	for _, e := range dumped.all() {
		switch data := e.get(exprData); e.string(exprName) {
		case "counter", "log":
		case "reject":
			return true
		case "target": // of xtables
			const name = 1 // NFTA_TARGET_NAME
			return data.string(name) == "REJECT" || data.string(name) == "DROP"
		case "immediate":
			return data.holds(verdict(verdictDrop, "").data)
		default:
			return false
		}
	}
	return false
}
