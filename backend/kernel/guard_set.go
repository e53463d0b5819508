package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// What golang.org/x/sys/unix does not have of linux/netfilter/nf_tables.h.
const (
	nftSetConcat      = 0x80
	nftaSetDescConcat = 2
	nftaSetElemKeyEnd = 10
	nftaFieldLen      = 1
	nftaListElem      = 1
)

// addrSet is a set of an nftables table. Its elements are VTEPs, or VTEPs each
// with a subnet that it may send from.
//
// Subnets of one length are the keys of a hash table, which takes the same time
// however many there are. Those of all other lengths are together in a set of
// ranges (Linux 5.6), which is nearly always empty and then costs nothing.
type addrSet struct {
	vteps subnet.Family
	pods  subnet.Family
	len   int // of the subnets, or one of the following
}

const (
	noSubnets = 0  // the VTEPs alone
	oddLen    = -1 // ranges
)

var familyNames = [2]string{subnet.IPv4: "ip", subnet.IPv6: "ip6"}

// name is vteps.ip, sources.ip.ip6.64 or sources.ip.ip.odd.
func (s addrSet) name() string {
	switch s.len {
	case noSubnets:
		return "vteps." + familyNames[s.vteps]
	case oddLen:
		return "sources." + familyNames[s.vteps] + "." + familyNames[s.pods] + ".odd"
	}
	return fmt.Sprintf("sources.%s.%s.%d", familyNames[s.vteps], familyNames[s.pods], s.len)
}

// parseAddrSet reads a name. Sets that others put into the table have another.
func parseAddrSet(name string) (addrSet, bool) {
	for _, v := range subnet.Families {
		if s := (addrSet{vteps: v}); s.name() == name {
			return s, true
		}
		for _, p := range subnet.Families {
			s := addrSet{vteps: v, pods: p, len: oddLen}
			if s.name() == name {
				return s, true
			}
			prefix := strings.TrimSuffix(s.name(), "odd")
			if text, ok := strings.CutPrefix(name, prefix); ok {
				_, err := fmt.Sscanf(text, "%d", &s.len)
				return s, err == nil && s.len > 0 && s.len <= p.Bits() && s.name() == name
			}
		}
	}
	return addrSet{}, false
}

// subnetSet is the set with a row's subnet of a family.
func subnetSet(s backend.Source, f subnet.Family) addrSet {
	set := addrSet{vteps: subnet.FamilyOf(s.VTEP), pods: f, len: s.Subnets[f].Bits()}
	if s.Odd {
		set.len = oddLen
	}
	return set
}

// ref names the set in a message.
func (s addrSet) ref(table string, tableKind, nameKind int) body {
	return body(nil).text(tableKind, table).text(nameKind, s.name())
}

// define is the set's definition. The type of its keys is for nft(8) alone, which
// takes what is read from a packet without a name for an integer.
func (s addrSet) define(table, owner string, id uint32) body {
	const typeInteger, typeBits = 4, 6 // of each part of a key
	keyType, keyLen, flags := nftAddrs[s.vteps].keyType, s.vteps.Bits()/8, uint32(0)
	if s.len != noSubnets {
		keyType, keyLen = keyType<<typeBits|typeInteger, keyLen+s.pods.Bits()/8
	}
	if s.len == oddLen {
		flags = unix.NFT_SET_INTERVAL | nftSetConcat
	}
	b := s.ref(table, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	b = b.number(unix.NFTA_SET_FLAGS, flags)
	b = b.number(unix.NFTA_SET_KEY_TYPE, keyType)
	b = b.number(unix.NFTA_SET_KEY_LEN, uint32(keyLen))
	b = b.number(unix.NFTA_SET_ID, id)
	if s.len == oddLen {
		var parts body
		for _, f := range []subnet.Family{s.vteps, s.pods} {
			parts = parts.put(nftaListElem, body(nil).number(nftaFieldLen, uint32(f.Bits()/8)))
		}
		b = b.put(unix.NFTA_SET_DESC, body(nil).put(nftaSetDescConcat, parts))
	}
	return b.put(unix.NFTA_SET_USERDATA, append(s.keyTypeOf(), setComment(owner)...))
}

// elements is a list of them in a message.
func (s addrSet) elements(table string, list body) body {
	return s.ref(table, unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET).put(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)
}

// element is one of a set.
func (s addrSet) element(vtep netip.Addr, pods netip.Prefix) body {
	if s.len == noSubnets {
		return elementKey(nil, unix.NFTA_SET_ELEM_KEY, vtep)
	}
	b := elementKey(nil, unix.NFTA_SET_ELEM_KEY, vtep, pods.Addr())
	if s.len == oddLen {
		b = elementKey(b, nftaSetElemKeyEnd, vtep, lastAddr(pods))
	}
	return b
}

func elementKey(b body, kind int, addrs ...netip.Addr) body {
	var key []byte
	for _, a := range addrs {
		key = append(key, a.AsSlice()...)
	}
	return b.put(kind, body(nil).put(unix.NFTA_DATA_VALUE, key))
}

// parse reads what element wrote. It is not ok if it is something else: a range
// that is no prefix, or `*`.
func (s addrSet) parse(element body) (vtep netip.Addr, pods netip.Prefix, ok bool) {
	key := element.get(unix.NFTA_SET_ELEM_KEY).get(unix.NFTA_DATA_VALUE)
	size := s.vteps.Bits() / 8
	if len(key) < size {
		return vtep, pods, false
	}
	vtep, ok = netip.AddrFromSlice(key[:size])
	if s.len == noSubnets {
		return vtep, pods, ok
	}
	first, ok := netip.AddrFromSlice(key[size:])
	if !ok {
		return vtep, pods, false
	}
	if s.len != oddLen {
		return vtep, netip.PrefixFrom(first, s.len), true
	}
	last := first
	if end := element.get(nftaSetElemKeyEnd).get(unix.NFTA_DATA_VALUE); len(end) == len(key) {
		if string(end[:size]) != string(key[:size]) {
			return vtep, pods, false
		}
		last, _ = netip.AddrFromSlice(end[size:])
	}
	for bits := range first.BitLen() + 1 {
		if pods = netip.PrefixFrom(first, bits); pods.Masked().Addr() == first && lastAddr(pods) == last {
			return vtep, pods, true
		}
	}
	return vtep, pods, false
}

// lastAddr is the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		if host := 8*(i+1) - p.Bits(); host > 0 {
			b[i] |= byte(1<<min(host, 8) - 1)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
