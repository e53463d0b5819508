package backend

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
)

// Nexthop is a kernel nexthop object (Linux 5.3 and newer). Ids are chosen by
// us, so that a restarted daemon knows its own.
type Nexthop struct {
	ID     uint32
	Via    netip.Addr
	Dev    string
	Onlink bool
}

// Key is the id.
func (n Nexthop) Key() Key {
	k := Key{Kind: KindNexthop}
	binary.BigEndian.PutUint32(k.id[:], n.ID)
	return k
}

func (n Nexthop) String() string {
	text := fmt.Sprintf("nexthop id %d via %s dev %s", n.ID, n.Via, n.Dev)
	if n.Onlink {
		text += " onlink"
	}
	return text
}

// nexthopID is the id of the nexthop object for a subnet with this first
// address: the address itself for IPv4, which no two subnets share, and a hash
// of it for IPv6.
func nexthopID(first netip.Addr) uint32 {
	if first.Is4() {
		b := first.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	b := first.As16()
	h := fnv.New32a()
	h.Write(b[:])
	return max(1, h.Sum32()) // the kernel takes 0 for "choose one"
}

// Subnet is the first address of the IPv4 subnet that the object leads to, as
// its id tells. What it is for an IPv6 subnet means nothing.
func (n Nexthop) Subnet() netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n.ID)))
}
