package backend

import (
	"fmt"
	"net/netip"
)

// Route is a route of the main table. Where Nexthop is 0 it names its gateway
// itself, as on kernels without nexthop objects.
type Route struct {
	Dst     netip.Prefix
	Nexthop uint32
	Via     netip.Addr
	Dev     string
	Onlink  bool
}

// Key is the destination.
func (r Route) Key() Key { return addrKey(KindRoute, "", r.Dst) }

func (r Route) String() string {
	if r.Nexthop != 0 {
		return fmt.Sprintf("route %s nhid %d", r.Dst, r.Nexthop)
	}
	text := fmt.Sprintf("route %s via %s dev %s", r.Dst, r.Via, r.Dev)
	if r.Onlink {
		text += " onlink"
	}
	return text
}
