package kernel

import (
	"encoding/binary"
	"slices"

	"tulle/subnet"
)

// What nft(8) notes beside a set, so that it can show the set and read again
// what it showed: an operator who saves a ruleset gets one that can be loaded. It
// is a list of a type, a length and a value each; numbers are in host byte order.

// Types of notes, and of parts of them (NFTNL_UDATA_SET_*, and nft's own).
const (
	noteKeyTypeOf = 3
	noteComment   = 7

	typeOfExpr = 0
	typeOfData = 1

	exprPayload = 7 // what is read from a packet
	exprConcat  = 13

	payloadDesc, payloadField, payloadBase, payloadOffset, payloadLen = 0, 1, 2, 3, 4
	payloadTransport                                                  = 3
)

// nftAddrs is what nft calls an address, and a source address in an IP header.
var nftAddrs = [2]struct{ keyType, header, field uint32 }{
	subnet.IPv4: {7, 12, 11},
	subnet.IPv6: {8, 13, 8},
}

func nftNote(kind byte, values ...[]byte) []byte {
	value := slices.Concat(values...)
	return append([]byte{kind, byte(len(value))}, value...)
}

func nftNumber(kind byte, n uint32) []byte {
	return nftNote(kind, binary.NativeEndian.AppendUint32(nil, n))
}

// keyTypeOf says that the keys are the packet's source and that of the packet
// inside, `typeof ip saddr . @th,336,32`.
func (s addrSet) keyTypeOf() []byte {
	if s.len == noSubnets {
		return nil
	}
	payload := func(at byte, what ...[]byte) []byte {
		return nftNote(at, nftNumber(typeOfExpr, exprPayload), nftNote(typeOfData, what...))
	}
	outer := nftAddrs[s.vteps]
	return nftNote(noteKeyTypeOf, nftNumber(typeOfExpr, exprConcat), nftNote(typeOfData,
		payload(0, nftNumber(payloadDesc, outer.header), nftNumber(payloadField, outer.field)),
		payload(1, nftNumber(payloadDesc, 0), nftNumber(payloadField, 0), nftNumber(payloadBase, payloadTransport),
			nftNumber(payloadOffset, uint32(8*(innerOffset+ipHeaders[s.pods].source))), nftNumber(payloadLen, uint32(s.pods.Bits()))),
	))
}

// setComment says whose a set is.
func setComment(owner string) []byte {
	const most = 127
	return nftNote(noteComment, append([]byte(owner[:min(len(owner), most)]), 0))
}

// isOf reports whether the notes beside a set have the owner's comment.
func isOf(owner string, notes []byte) bool {
	for len(notes) >= 2 {
		size := min(2+int(notes[1]), len(notes))
		if string(notes[:size]) == string(setComment(owner)) {
			return true
		}
		notes = notes[size:]
	}
	return false
}
