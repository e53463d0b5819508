package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// haveWiring is what there is. What is missing stays zero.
func haveWiring(c netconf, a attachment, h *netlink.Handle, p *pod) (wiring, error) {
	var w wiring
	link, err := p.link(a.IfName)
	if err != nil {
		return w, err
	}
	if link != nil {
		w.PodLink, w.PodMAC = a.IfName, link.Attrs().HardwareAddr.String()
		w.PodUp = link.Attrs().Flags&net.FlagUp != 0
		addrs, err := addrsOf(p.h, link)
		if err != nil {
			return w, fmt.Errorf("list addresses of %s in the pod: %w", a.IfName, err)
		}
		for _, addr := range addrs {
			w.Addrs = append(w.Addrs, prefixOf(addr.IPNet))
		}
	}
	if w.Routes, err = p.routes(); err != nil {
		return w, err
	}
	if err := w.readHost(c, a, h); err != nil {
		return w, err
	}
	if len(c.Wish.Ports) > 0 {
		if w.Ports, w.Tables, err = havePorts(c, a); err != nil {
			return w, err
		}
	}
	if c.Wish.Bandwidth != (bandwidth{}) {
		if w.Limits, w.Through, err = haveLimits(h, a); err != nil {
			return w, err
		}
	}
	store, err := openExistingIPAM(c)
	if store == nil {
		return w, err
	}
	defer store.close()
	w.Reserved, err = store.held(a)
	return w, err
}

// readHost fills in the host's half.
func (w *wiring) readHost(c netconf, a attachment, h *netlink.Handle) error {
	notFound := netlink.LinkNotFoundError{}
	host, err := h.LinkByName(a.hostName())
	switch {
	case errors.As(err, &notFound):
	case err != nil:
		return fmt.Errorf("look up %s: %w", a.hostName(), err)
	default:
		w.HostLink = a.hostName()
		w.HostUp = host.Attrs().Flags&net.FlagUp != 0
	}
	br, err := h.LinkByName(c.Bridge)
	switch {
	case errors.As(err, &notFound):
		return nil
	case err != nil:
		return fmt.Errorf("look up bridge %s: %w", c.Bridge, err)
	}
	addrs, err := addrsOn(br.Attrs().Index)
	if err != nil {
		return fmt.Errorf("list addresses of bridge %s: %w", c.Bridge, err)
	}
	for _, p := range addrs {
		w.Gateways = append(w.Gateways, p.Addr())
	}
	if host != nil && host.Attrs().MasterIndex == br.Attrs().Index {
		w.Master = c.Bridge
		port, err := dump(func() (netlink.Protinfo, error) { return h.LinkGetProtinfo(host) })
		if err != nil {
			return fmt.Errorf("read bridge port %s: %w", w.HostLink, err)
		}
		w.Hairpin = port.Hairpin
	}
	return nil
}

// routes are all routes of the pod, with destination and gateway.
func (p *pod) routes() ([]route, error) {
	// Table 0 as filter means the tables of all numbers.
	list, err := dump(func() ([]netlink.Route, error) {
		return p.h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes of the pod: %w", err)
	}
	var routes []route
	for _, r := range list {
		gw, _ := netip.AddrFromSlice(r.Gw)
		dst := prefixOf(r.Dst)
		if !dst.IsValid() && gw.IsValid() {
			dst = netip.PrefixFrom(zero(gw.Unmap()), 0)
		}
		routes = append(routes, route{Dst: dst, Via: gw.Unmap()})
	}
	return routes, nil
}

// havePorts are the rows of the attachment's port mappings, without their comments, and
// the tables whose rules are as they should be.
func havePorts(c netconf, a attachment) (own []portRow, tables []string, err error) {
	f, err := openFirewall()
	if err != nil {
		return nil, nil, err
	}
	defer f.close()
	rows, err := f.list()
	if err != nil || f.Conn == nil {
		return nil, nil, err
	}
	for _, r := range rows {
		if ownerOf(r.Owner, c.Name) == a.hostName() {
			r.Owner = ""
			own = append(own, r)
		}
	}
	for _, family := range subnet.Families {
		if f.intact(family) {
			tables = append(tables, tableName(family))
		}
	}
	return own, tables, nil
}
