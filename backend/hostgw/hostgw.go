// Package hostgw turns leases into plain routes between nodes on one link: the
// other node's underlay address is the gateway to its subnet. It is pure.
//
// There is no device and no other header, so pods may send packets as large as
// the nodes do. A node that is not on our link can't be reached so, and is left
// out.
package hostgw

import (
	"fmt"

	"tulle/backend"
	"tulle/subnet"
)

// HostGW is the backend for one Network. It is a value that never changes and
// may be used by many at once.
type HostGW struct {
	network subnet.Network
}

var _ backend.Backend = HostGW{}

// New returns the backend for a Network whose Backend.Type is subnet.HostGW.
func New(n subnet.Network) HostGW { return HostGW{network: n} }

// Data implements backend.Backend. A node's address is all that there is to know.
func (HostGW) Data(string) [2]string { return [2]string{} }

// Device implements backend.Backend. Packets leave by the underlay's.
func (HostGW) Device() string { return "" }

// MTU implements backend.Backend.
func (h HostGW) MTU(u backend.Underlay) int {
	if h.network.Backend.MTU != 0 {
		return h.network.Backend.MTU
	}
	return u.MTU
}

// Node implements backend.Backend.
func (HostGW) Node(in backend.Input) backend.State {
	return backend.NewState(in.DirectSysctls()...)
}

// Peer implements backend.Backend.
func (HostGW) Peer(in backend.Input, l subnet.Lease) ([]backend.Entry, error) {
	if err := in.CheckPeer(l); err != nil {
		return nil, err
	}
	var rows []backend.Entry
	for f, dst := range l.Subnets {
		if !dst.IsValid() {
			continue
		}
		via, err := in.Neighbour(l, subnet.Family(f))
		if err != nil {
			return nil, fmt.Errorf("%w, and %s has no other way; where some nodes are on another link, use the backend %s with DirectRouting",
				err, subnet.HostGW, subnet.VXLAN)
		}
		rows = append(rows, in.RouteTo(dst, backend.Nexthop{Via: via, Dev: in.Underlay.Dev})...)
	}
	return rows, nil
}
