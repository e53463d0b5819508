package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

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
			LinkAttrs:        netlink.LinkAttrs{Name: h.Name, MasterIndex: master.Attrs().Index},
			PeerName:         uplink,
			PeerHardwareAddr: uplinkMAC(h.Addr),
			PeerNamespace:    netlink.NsPid(h.process.Pid),
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

// uplinkMAC is the MAC address of the host with that address, known beforehand
// and kept when the device is made again.
func uplinkMAC(addr netip.Addr) net.HardwareAddr {
	const local = 0x02 // locally administered
	return append(net.HardwareAddr{local, 0}, addr.AsSlice()...)
}

// manyNodes is from where on nodes do not ask for each other's MAC. The kernel
// has one ARP table for all namespaces, of 1024 rows unless the machine is set
// otherwise, and one row for each pair of nodes would fill it. Permanent rows do
// not count.
const manyNodes = 20

// introduce tells a node the MAC addresses of the others.
func introduce(h *Host, nodes []*Host) error {
	return h.Net(func() error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return fmt.Errorf("find %s: %w", uplink, err)
		}
		for _, peer := range nodes {
			if peer == h {
				continue
			}
			err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex:    link.Attrs().Index,
				IP:           peer.Addr.AsSlice(),
				HardwareAddr: uplinkMAC(peer.Addr),
				State:        netlink.NUD_PERMANENT,
			})
			if err != nil {
				return fmt.Errorf("add neighbour %s: %w", peer.Addr, err)
			}
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
