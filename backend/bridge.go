package backend

import (
	"fmt"
	"net/netip"
)

// Bridge is the pods' bridge, which the CNI plugin makes and which is known by its
// address. It takes no larger packets than pods may send: what is too large for
// them is then answered (ICMP) and not lost.
type Bridge struct {
	Addr netip.Addr
	MTU  int // at most, and not more than that of a pod that is there
	// Unfit says that it has another MTU than that comes to; false in what is wanted.
	Unfit bool
}

// Key is the address.
func (b Bridge) Key() Key { return addrKey(KindBridge, "", host(b.Addr)) }

func (b Bridge) String() string { return fmt.Sprintf("bridge with address %s mtu %d", b.Addr, b.MTU) }
