package backend

import (
	"fmt"
	"net/netip"
)

// Neigh is a permanent neighbour (an ARP entry, for IPv4) on one of our devices.
type Neigh struct {
	Dev string
	IP  netip.Addr
	MAC MAC
}

// Key is the device and the IP address.
func (n Neigh) Key() Key { return addrKey(KindNeigh, n.Dev, host(n.IP)) }

func (n Neigh) String() string {
	return fmt.Sprintf("neigh %s lladdr %s dev %s nud permanent", n.IP, n.MAC, n.Dev)
}
