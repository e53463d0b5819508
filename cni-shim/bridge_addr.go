package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureAddrs gives the bridge its addresses. After a change of the node's subnet it
// has the address of the old one beside the new one for as long as pods live there:
// it is their gateway.
func (b bridge) ensureAddrs(h *netlink.Handle, br *netlink.Bridge, store *ipam) error {
	have, err := bridgeAddrs(br)
	if err != nil {
		return err
	}
	for _, want := range b.Addrs {
		if slices.Contains(have, want) {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(want), Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(br, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s to bridge %s: %w", want, b.Name, err)
		}
		// A bridge whose MAC nobody set takes that of a port, and another one
		// when the port goes. Setting it, even to what it is, ends that.
		if err := h.LinkSetHardwareAddr(br, br.HardwareAddr); err != nil {
			return fmt.Errorf("set mac %s on bridge %s: %w", br.HardwareAddr, b.Name, err)
		}
	}
	for _, old := range have {
		if !slices.Contains(b.Addrs, old) && isGateway(old) {
			if err := b.retire(h, br, old, store); err != nil {
				return err
			}
		}
	}
	return nil
}

// isGateway reports whether an address is such as this plugin or flannel gives to a
// bridge: the first of its subnet. Others are an operator's, and stay.
func isGateway(p netip.Prefix) bool {
	return !p.IsSingleIP() && p.Addr() == p.Masked().Addr().Next()
}

func bridgeAddrs(br *netlink.Bridge) ([]netip.Prefix, error) {
	list, err := addrsOn(br.Index)
	if err != nil {
		return nil, fmt.Errorf("list addresses of bridge %s: %w", br.Name, err)
	}
	var have []netip.Prefix
	for _, p := range list {
		if !p.Addr().IsLinkLocalUnicast() {
			have = append(have, p)
		}
	}
	return have, nil
}

// retire removes the address of a subnet that is no longer ours, if no pod uses it.
func (b bridge) retire(h *netlink.Handle, br *netlink.Bridge, old netip.Prefix, store *ipam) error {
	used, err := b.inUse(h, br, old, store)
	if used || err != nil {
		return err
	}
	if err := h.AddrDel(br, &netlink.Addr{IPNet: ipNet(old)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from bridge %s: %w", old, b.Name, err)
	}
	return nil
}

// inUse reports whether a pod may live in the subnet of the address: one has a
// reservation there, or has an address there, or is one that we cannot look into.
func (b bridge) inUse(h *netlink.Handle, br *netlink.Bridge, old netip.Prefix, store *ipam) (bool, error) {
	ports, err := portsOf(h, br)
	if err != nil || len(ports) == 0 {
		return false, err
	}
	l, err := store.list()
	if err != nil {
		return false, err
	}
	for a := range l.taken {
		if old.Contains(a) && !slices.ContainsFunc(b.Addrs, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return true, nil
		}
	}
	for _, port := range ports {
		if port.Attrs().NetNsID < 0 {
			continue
		}
		addrs, err := addrsInside(port.Attrs().NetNsID)
		if err != nil {
			return false, fmt.Errorf("list addresses behind %s: %w", port.Attrs().Name, err)
		}
		if len(addrs) == 0 || slices.ContainsFunc(addrs, old.Contains) {
			return true, nil
		}
	}
	return false, nil
}

func portsOf(h *netlink.Handle, br *netlink.Bridge) ([]netlink.Link, error) {
	links, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list ports of bridge %s: %w", br.Name, err)
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Attrs().MasterIndex != br.Index }), nil
}
