package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

// The addresses are those that RFC 5737 keeps for documentation.
var (
	underlayRouter = netip.MustParsePrefix("192.0.2.1/24")
	outsideRouter  = netip.MustParsePrefix("198.51.100.1/24")
	outsideAddr    = netip.MustParseAddr("198.51.100.10")
	podNetwork     = netip.MustParsePrefix("10.244.0.0/16")
)

// mostNodes is how many addresses the underlay has for nodes.
const mostNodes = 240

// nodeAddr is the underlay address of the i-th node, counted from 1.
func nodeAddr(i int) netip.Addr {
	b := underlayRouter.Masked().Addr().As4()
	b[3] = byte(10 + i)
	return netip.AddrFrom4(b)
}

// The bridges in the underlay host.
const (
	underlayBridge = "underlay"
	outsideBridge  = "wan"
	uplink         = "eth0" // of every other host
)

// setUpUnderlay makes the bridges and lets the host route between them.
func setUpUnderlay(h *Host) error {
	err := h.Net(func() error {
		for name, addr := range map[string]netip.Prefix{underlayBridge: underlayRouter, outsideBridge: outsideRouter} {
			bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
			if err := netlink.LinkAdd(bridge); err != nil {
				return fmt.Errorf("add bridge %s: %w", name, err)
			}
			if err := addressAndUp(name, addr); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, h.Sysctl("net/ipv4/ip_forward", "1"))
}

// plug connects a host with a bridge of the underlay.
func plug(underlay, h *Host, bridge string, router netip.Prefix) error {
	err := underlay.Net(func() error {
		master, err := netlink.LinkByName(bridge)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", bridge, err)
		}
		port := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: h.Name, MasterIndex: master.Attrs().Index},
			PeerName:      uplink,
			PeerNamespace: netlink.NsPid(h.process.Pid),
		}
		if err := netlink.LinkAdd(port); err != nil {
			return fmt.Errorf("add veth %s: %w", h.Name, err)
		}
		return linkUp(h.Name)
	})
	if err != nil {
		return err
	}
	return h.Net(func() error {
		if err := addressAndUp(uplink, netip.PrefixFrom(h.Addr, router.Bits())); err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Gw: router.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("add default route via %s: %w", router.Addr(), err)
		}
		return nil
	})
}

func addressAndUp(name string, addr netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	ip := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ip}); err != nil {
		return fmt.Errorf("add address %s to %s: %w", addr, name, err)
	}
	return linkUp(name)
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// Sysctl writes a setting of the place's network, named as below /proc/sys.
func (p *Place) Sysctl(name, value string) error {
	return p.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
}
