package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
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

	Promisc    bool
	Kubernetes bool // what crosses the bridge must be seen by kube-proxy's rules
}

func wantBridge(c netconf, f subnet.File) bridge {
	b := bridge{Name: c.Bridge, MTU: podMTU(c, f), Promisc: c.Promisc}
	for _, s := range f.Subnets {
		if s.IsValid() {
			b.Addrs = append(b.Addrs, s)
		}
	}
	b.MAC = macOf(b.Addrs[0])
	return b
}

// podMTU is the MTU of pods and bridge.
func podMTU(c netconf, f subnet.File) int {
	if c.MTU != 0 {
		return c.MTU
	}
	return f.MTU
}

// checkMTU refuses an MTU with which the kernel takes IPv6 off an interface.
func checkMTU(c netconf, f subnet.File) error {
	const least = 1280 // RFC 8200
	if mtu := podMTU(c, f); mtu < least && f.Subnets[subnet.IPv6].IsValid() {
		source := "mtu"
		if c.MTU == 0 {
			source = "FLANNEL_MTU of the subnet file"
		}
		return coded(types.ErrInvalidNetworkConfig, fmt.Errorf("%s: %d is less than the %d that IPv6 needs, and the subnet file %s gives this node's pods %s",
			source, mtu, least, c.SubnetFile, f.Subnets[subnet.IPv6].Masked()))
	}
	return nil
}

// ensure makes the bridge what it should be and returns it. Several processes may
// do so at once. A bridge that somebody else made keeps its MAC, because the pods
// that live there know it.
func (b bridge) ensure(h *netlink.Handle, six ipv6, store *ipam) (*netlink.Bridge, error) {
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
	if err := six.quiet(b.Name, slices.ContainsFunc(b.Addrs, isIPv6)); err != nil {
		return nil, err
	}
	// Set after the bridge is made and not with it: the kernel then takes the
	// MTU for the operator's wish, and no longer derives it from the ports.
	mtu, err := b.mtuFor(h, br)
	if err != nil {
		return nil, err
	}
	if br.MTU != mtu {
		if err := h.LinkSetMTU(br, mtu); err != nil {
			return nil, fmt.Errorf("set mtu %d on bridge %s: %w", mtu, b.Name, err)
		}
	}
	if err := b.ensureAddrs(h, br, store); err != nil {
		return nil, err
	}
	if err := b.ensureModes(h, br); err != nil {
		return nil, err
	}
	if br.Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("set bridge %s up: %w", b.Name, err)
		}
	}
	return br, nil
}

// mtuFor is the MTU that the bridge should have now. It grows no further than the
// pods that are there from before: what is too large for them would be lost on the
// way from the bridge to them, and so its sender hears of it.
func (b bridge) mtuFor(h *netlink.Handle, br *netlink.Bridge) (int, error) {
	if br.MTU >= b.MTU {
		return b.MTU, nil
	}
	ports, err := portsOf(h, br)
	mtu := b.MTU
	for _, port := range ports {
		mtu = min(mtu, port.Attrs().MTU)
	}
	return mtu, err
}

func isIPv6(p netip.Prefix) bool { return p.Addr().Is6() }

func (b bridge) find(h *netlink.Handle) (*netlink.Bridge, error) {
	link, err := h.LinkByName(b.Name)
	if err != nil {
		return nil, fmt.Errorf("look up bridge %s: %w", b.Name, err)
	}
	br, ok := link.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("%s is of type %s and not a bridge: remove it, or name another one in the field bridge", b.Name, link.Type())
	}
	return br, nil
}

// possible tells why the bridge could not be made, as far as that can be known
// without making it.
func (b bridge) possible(h *netlink.Handle) error {
	_, err := b.find(h)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil
	}
	return err
}
