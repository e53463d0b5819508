package vxlan

import (
	"fmt"
	"net/netip"

	"tulle/backend"
	"tulle/subnet"
)

// peer is a lease that makes sense.
type peer struct {
	addr netip.Addr  // underlay address of its VTEP
	mac  backend.MAC // of its VXLAN device; zero: it has none yet
}

func (p peer) vtep() bool { return p.mac != backend.MAC{} }

// peer reads a lease and checks it, looked at alone.
func (v VXLAN) peer(in backend.Input, l subnet.Lease) (peer, error) {
	family := in.Underlay.Family
	p := peer{addr: l.Addrs[family]}
	if err := in.CheckPeer(l); err != nil {
		return p, err
	}
	if !p.addr.IsValid() {
		return p, fmt.Errorf("it has no %s address, which packets between nodes travel over here; if all nodes have %s, set IPv6Underlay in the network", family, subnet.IPv6)
	}
	if err := in.CheckAddr(p.addr); err != nil {
		return p, err
	}
	if l.Type != subnet.VXLAN {
		return p, nil
	}
	t, err := parseVTEP(data(in, l))
	if err != nil {
		return p, err
	}
	if t.VNI != v.network.Backend.VNI {
		return p, fmt.Errorf("its VNI is %d, ours is %d", t.VNI, v.network.Backend.VNI)
	}
	if t.MAC == v.mac(in.Self.Node) {
		return p, fmt.Errorf("its VtepMAC %s is our own", t.MAC)
	}
	p.mac = t.MAC
	return p, nil
}

// gateway is the address by which routes reach a subnet of the peer: its first,
// as with flannel. For IPv6 it is the link-local one that follows from the MAC
// address (RFC 4291, appendix A): the kernel refuses a gateway with another address
// where some route of the host leads to that by another device, be it one for
// all of fd00::/8.
func (p peer) gateway(s netip.Prefix) netip.Addr {
	if s.Addr().Is4() {
		return subnet.Gateway(s)
	}
	m := p.mac
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// data is what a lease tells of the device that our packets come to. A node of
// flannel has two, each for packets inside packets of its own family, and takes
// what comes to either: so the one of the underlay's family is the one to send
// to, whatever is inside. A lease of pods of the other family alone, which no
// flannel has over such an underlay, tells of its one device there.
func data(in backend.Input, l subnet.Lease) string {
	if own := l.Data[in.Underlay.Family]; own != "" {
		return own
	}
	return l.Data[1-in.Underlay.Family]
}
