package backend

import (
	"encoding/binary"
	"fmt"
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
