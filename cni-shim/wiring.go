package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"tulle/subnet"
)

// wiring is a pod's attachment as CHECK sees it.
type wiring struct {
	PodLink   string // interface in the pod
	PodMAC    string
	PodUp     bool
	Addrs     []netip.Prefix // on it
	Routes    []route        // destination and gateway only
	HostLink  string         // the veth's other end
	HostUp    bool
	Master    string // the bridge that HostLink is a port of
	Hairpin   bool
	Gateways  []netip.Addr // on the bridge
	Reserved  []netip.Addr
	Ports     []portRow
	Tables    []string // of nftables whose rules are as they should be
	Limits    []limit
	Through   string // the shaper of what the pod sends
	Directory string // of reservations
}

// wantWiring is what ADD's result promises.
func wantWiring(c netconf, a attachment, prev *current.Result) (wiring, error) {
	w := wiring{
		PodLink: a.IfName, PodUp: true, HostLink: a.hostName(), HostUp: true,
		Master: c.Bridge, Hairpin: c.Hairpin, Directory: c.reservationDir(),
	}
	index := slices.IndexFunc(prev.Interfaces, func(i *current.Interface) bool {
		return i.Sandbox != "" && i.Name == a.IfName
	})
	if index < 0 {
		return w, coded(types.ErrInvalidNetworkConfig, fmt.Errorf("prevResult has no interface %s in a sandbox", a.IfName))
	}
	w.PodMAC = prev.Interfaces[index].Mac
	var own []address
	for _, ip := range prev.IPs {
		if ip.Interface != nil && *ip.Interface != index {
			continue // another plugin's
		}
		addr := prefixOf(&ip.Address)
		w.Addrs = append(w.Addrs, addr)
		own = append(own, address{Prefix: addr})
		w.Reserved = append(w.Reserved, addr.Addr())
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			w.Gateways = append(w.Gateways, gw.Unmap())
		}
	}
	w.Ports = portRows(c.Wish.Ports, own, a, "")
	for _, family := range subnet.Families {
		if slices.ContainsFunc(w.Ports, func(r portRow) bool { return r.Family == family }) {
			w.Tables = append(w.Tables, tableName(family))
		}
	}
	w.Limits, w.Through = c.Wish.Bandwidth.wantLimits(a)
	for _, r := range prev.Routes {
		gw, _ := netip.AddrFromSlice(r.GW)
		w.Routes = append(w.Routes, route{Dst: prefixOf(&r.Dst), Via: gw.Unmap()})
	}
	return w, nil
}

// differences tells what of the wanted is not there, in words.
func (w wiring) differences(have wiring) []string {
	var wrong []string
	tell := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	switch {
	case have.PodLink == "":
		tell("interface %s is missing in the pod", w.PodLink)
	default:
		if !have.PodUp {
			tell("interface %s in the pod is down", w.PodLink)
		}
		if w.PodMAC != "" && have.PodMAC != w.PodMAC {
			tell("interface %s in the pod has mac %s, not %s", w.PodLink, have.PodMAC, w.PodMAC)
		}
		for _, a := range missing(w.Addrs, have.Addrs) {
			tell("address %s is missing on %s in the pod", a, w.PodLink)
		}
	}
	for _, r := range w.Routes {
		if !slices.ContainsFunc(have.Routes, r.isLike) {
			tell("route %s is missing in the pod", r)
		}
	}
	switch {
	case have.HostLink == "":
		tell("veth %s is missing on the host", w.HostLink)
	case have.Master == "":
		tell("veth %s is not attached to bridge %s", w.HostLink, w.Master)
	case have.Hairpin != w.Hairpin:
		tell("hairpin mode of %s is %t, not %t", w.HostLink, have.Hairpin, w.Hairpin)
	}
	if have.HostLink != "" && !have.HostUp {
		tell("veth %s on the host is down", w.HostLink)
	}
	for _, g := range missing(w.Gateways, have.Gateways) {
		tell("gateway %s is missing on bridge %s", g, w.Master)
	}
	for _, a := range missing(w.Reserved, have.Reserved) {
		tell("address %s is not reserved for this container in %s", a, w.Directory)
	}
	for _, p := range missing(w.Ports, have.Ports) {
		tell("%s is missing in nftables table %s", p, portTable)
	}
	for _, name := range missing(w.Tables, have.Tables) {
		tell("rules of nftables table %s are not as they should be", name)
	}
	for _, l := range missing(w.Limits, have.Limits) {
		tell("%s", l)
	}
	if w.Through != "" && have.Through != w.Through {
		tell("what the pod sends is not led through %s", w.Through)
	}
	return wrong
}

// isLike reports whether the other route leads to the same, by the same gateway if
// that is told.
func (r route) isLike(other route) bool {
	return r.Dst == other.Dst && (!r.Via.IsValid() || r.Via == other.Via)
}

func missing[T comparable](want, have []T) []T {
	there := map[T]bool{}
	for _, v := range have {
		there[v] = true
	}
	var gone []T
	for _, v := range want {
		if !there[v] {
			gone = append(gone, v)
		}
	}
	return gone
}
