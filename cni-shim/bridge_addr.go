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
	have, err := b.addAddrs(h, br)
	if err != nil {
		return err
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

// addAddrs adds the addresses that are missing, and returns those that were there.
//
// It is called once more when the pod has its address: until then another ADD, which reads
// of another subnet, may take the bridge's away.
func (b bridge) addAddrs(h *netlink.Handle, br *netlink.Bridge) ([]netip.Prefix, error) {
	have, err := bridgeAddrs(br)
	if err != nil {
		return nil, err
	}
	for _, want := range b.Addrs {
		if slices.Contains(have, want) {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(want), Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(br, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("add address %s to bridge %s: %w", want, b.Name, err)
		}
		// A bridge whose MAC nobody set takes that of a port, and another one
		// when the port goes. Setting it, even to what it is, ends that.
		if err := h.LinkSetHardwareAddr(br, br.HardwareAddr); err != nil {
			return nil, fmt.Errorf("set mac %s on bridge %s: %w", br.HardwareAddr, b.Name, err)
		}
	}
	return have, nil
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

// retire removes the address of a subnet that is no longer ours, if no pod uses it. It looks
// again with the lock held, under which pods get their addresses.
func (b bridge) retire(h *netlink.Handle, br *netlink.Bridge, old netip.Prefix, store *ipam) error {
	used, err := b.inUse(h, br, old, store)
	if used || err != nil {
		return err
	}
	return store.locked(func() error {
		used, err := b.inUse(h, br, old, store)
		if used || err != nil {
			return err
		}
		if err := h.AddrDel(br, &netlink.Addr{IPNet: ipNet(old)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s from bridge %s: %w", old, b.Name, err)
		}
		return nil
	})
}

// inUse reports whether a pod may live in the subnet of the address: one has a
// reservation there, or has an address there, or is one that we cannot look into. On a
// bridge without ports that is a pod which is being attached.
func (b bridge) inUse(h *netlink.Handle, br *netlink.Bridge, old netip.Prefix, store *ipam) (bool, error) {
	l, err := store.list()
	if err != nil {
		return false, err
	}
	ports, err := portsOf(h, br)
	if err != nil {
		return false, err
	}
	for a := range l.taken {
		if !old.Contains(a) || slices.ContainsFunc(b.Addrs, func(p netip.Prefix) bool { return p.Contains(a) }) {
			continue
		}
		if len(ports) > 0 || store.inTheMaking(a) {
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
