package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// bridge is the node's pod bridge as it should be.
type bridge struct {
	Name  string
	MTU   int
	MAC   net.HardwareAddr
	Addrs []netip.Prefix // one per family of the subnet file
}

func wantBridge(c netconf, f subnet.File) bridge {
	b := bridge{Name: c.Bridge, MTU: podMTU(c, f)}
	for _, s := range f.Subnets {
		if s.IsValid() {
			b.Addrs = append(b.Addrs, s)
		}
	}
	b.MAC = macOf(b.Addrs[0].Addr())
	return b
}

// podMTU is the MTU of pods and bridge.
func podMTU(c netconf, f subnet.File) int {
	if c.MTU != 0 {
		return c.MTU
	}
	return f.MTU
}

// ensure makes the bridge what it should be and returns it. Several processes may
// do so at once. A bridge that somebody else made keeps its MAC, because the pods
// that live there know it.
func (b bridge) ensure(h *netlink.Handle) (*netlink.Bridge, error) {
	br, err := b.find(h)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = b.Name, b.MAC
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make bridge %s: %w", b.Name, err)
		}
		br, err = b.find(h)
	}
	if err != nil {
		return nil, err
	}
	if err := quietIPv6(b.Name, slices.ContainsFunc(b.Addrs, isIPv6)); err != nil {
		return nil, err
	}
	// Set after the bridge is made and not with it: the kernel then takes the
	// MTU for the operator's wish, and no longer derives it from the ports.
	if br.MTU != b.MTU {
		if err := h.LinkSetMTU(br, b.MTU); err != nil {
			return nil, fmt.Errorf("set mtu %d on bridge %s: %w", b.MTU, b.Name, err)
		}
	}
	if err := b.ensureAddrs(h, br); err != nil {
		return nil, err
	}
	if br.Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("set bridge %s up: %w", b.Name, err)
		}
	}
	return br, nil
}

func isIPv6(p netip.Prefix) bool { return p.Addr().Is6() }

func (b bridge) find(h *netlink.Handle) (*netlink.Bridge, error) {
	link, err := h.LinkByName(b.Name)
	if err != nil {
		return nil, fmt.Errorf("look up bridge %s: %w", b.Name, err)
	}
	br, ok := link.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("%s is a %s and not a bridge: remove it, or name another one in the field bridge", b.Name, link.Type())
	}
	return br, nil
}

// ensureAddrs gives the bridge its addresses. One of another subnet goes only if
// no pod is attached that could still use it.
func (b bridge) ensureAddrs(h *netlink.Handle, br *netlink.Bridge) error {
	have, err := bridgeAddrs(h, br)
	if err != nil {
		return err
	}
	for _, want := range b.Addrs {
		if slices.Contains(have, want) {
			continue
		}
		for _, old := range have {
			if old.Addr().Is4() != want.Addr().Is4() {
				continue
			}
			if err := b.retire(h, br, old, want); err != nil {
				return err
			}
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
	return nil
}

func bridgeAddrs(h *netlink.Handle, br *netlink.Bridge) ([]netip.Prefix, error) {
	list, err := addrsOf(h, br)
	if err != nil {
		return nil, fmt.Errorf("list addresses of bridge %s: %w", br.Name, err)
	}
	var have []netip.Prefix
	for _, a := range list {
		if p := prefixOf(a.IPNet); !p.Addr().IsLinkLocalUnicast() {
			have = append(have, p)
		}
	}
	return have, nil
}

// retire removes the address of a subnet that is no longer ours.
func (b bridge) retire(h *netlink.Handle, br *netlink.Bridge, old, want netip.Prefix) error {
	ports, err := portsOf(h, br)
	if err != nil {
		return err
	}
	if len(ports) > 0 {
		return fmt.Errorf("bridge %s has address %s, but the subnet file says %s, and %d pods are still attached: "+
			"drain the node so that they start anew, then the address is replaced", b.Name, old, want, len(ports))
	}
	if err := h.AddrDel(br, &netlink.Addr{IPNet: ipNet(old)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from bridge %s: %w", old, b.Name, err)
	}
	return nil
}

func portsOf(h *netlink.Handle, br *netlink.Bridge) ([]netlink.Link, error) {
	links, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list ports of bridge %s: %w", br.Name, err)
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Attrs().MasterIndex != br.Index }), nil
}
