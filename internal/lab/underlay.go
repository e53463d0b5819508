package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// addressing is what a lab uses of one family. The addresses of hosts are those
// that RFC 5737 and RFC 3849 keep for documentation.
type addressing struct {
	underlay netip.Prefix // the router's address among the nodes
	beyond   netip.Prefix // the router's address among the nodes of the second link
	nodes    int          // how far after the router's address that of the first node is
	outside  netip.Prefix // the router's address towards the outside host
	stranger netip.Addr   // the outside host's
	pods     netip.Prefix
	service  netip.Addr
}

var addresses = [2]addressing{
	subnet.IPv4: {
		underlay: netip.MustParsePrefix("192.0.2.1/24"),
		beyond:   netip.MustParsePrefix("203.0.113.1/24"),
		nodes:    10, // so node1 is 192.0.2.11
		outside:  netip.MustParsePrefix("198.51.100.1/24"),
		stranger: netip.MustParseAddr("198.51.100.10"),
		pods:     netip.MustParsePrefix("10.244.0.0/16"),
		service:  netip.MustParseAddr("10.96.0.10"),
	},
	subnet.IPv6: {
		underlay: netip.MustParsePrefix("2001:db8::1/64"),
		beyond:   netip.MustParsePrefix("2001:db8:2::1/64"),
		nodes:    16, // so node1 is 2001:db8::11
		outside:  netip.MustParsePrefix("2001:db8:1::1/64"),
		stranger: netip.MustParseAddr("2001:db8:1::10"),
		pods:     netip.MustParsePrefix("fd00:10:244::/56"),
		service:  netip.MustParseAddr("fd00:10:96::10"),
	},
}

// mostNodes is how many addresses the underlay has for nodes.
const mostNodes = 240

// mostMembers is how many addresses it has for members of etcd.
const mostMembers = 7

// hostAddrs are the addresses that f picks, of the families that hosts have.
func (l *Lab) hostAddrs(f func(addressing) netip.Addr) [2]netip.Addr {
	var addrs [2]netip.Addr
	for _, family := range l.Underlay.List() {
		addrs[family] = f(addresses[family])
	}
	return addrs
}

// node is the underlay address of the i-th node, counted from 1, on a link.
func (a addressing) node(i int, on link) netip.Addr { return after(a.router(on).Addr(), a.nodes+i-1) }

// etcd is that of the i-th member of etcd, where it has a host of its own.
func (a addressing) etcd(i int) netip.Addr { return after(a.underlay.Addr(), i) }

func after(addr netip.Addr, n int) netip.Addr {
	for range n {
		addr = addr.Next()
	}
	return addr
}

// router is the router's address on a link.
func (a addressing) router(on link) netip.Prefix {
	return map[link]netip.Prefix{firstLink: a.underlay, secondLink: a.beyond, outsideLink: a.outside}[on]
}

// link is a bridge in the underlay host, by its name.
type link string

// The links. Most labs have their nodes on the first.
const (
	firstLink   link = "underlay"
	secondLink  link = "underlay2"
	outsideLink link = "wan"
)

const uplink = "eth0" // of every host but the underlay

// link is that of a node of the lab, counted from 1: the first half of the nodes
// is on the first link where there are two.
func (o Options) link(i int) link {
	if o.Links == 2 && i > (o.Nodes+1)/2 {
		return secondLink
	}
	return firstLink
}

// forwarding is the setting that makes a host route.
var forwarding = [2]string{subnet.IPv4: "net/ipv4/ip_forward", subnet.IPv6: "net/ipv6/conf/all/forwarding"}

// setUpUnderlay makes the bridges and lets the host route between them.
func (l *Lab) setUpUnderlay(h *Host) error {
	err := h.Net(func() error {
		for _, on := range []link{firstLink, secondLink, outsideLink} {
			name := string(on)
			bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
			if err := netlink.LinkAdd(bridge); err != nil {
				return fmt.Errorf("add bridge %s: %w", name, err)
			}
			if err := linkUpAtOnce(name); err != nil {
				return err
			}
			for _, f := range l.Underlay.List() {
				if err := address(name, addresses[f].router(on)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, f := range l.Underlay.List() {
		err = errors.Join(err, h.Sysctl(forwarding[f], "1"))
	}
	return err
}

// plug connects a host with its link.
func (l *Lab) plug(h *Host) error {
	err := l.Host("underlay").Net(func() error {
		master, err := netlink.LinkByName(string(h.link))
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", h.link, err)
		}
		port := &netlink.Veth{
			LinkAttrs:        netlink.LinkAttrs{Name: h.Name, MasterIndex: master.Attrs().Index},
			PeerName:         uplink,
			PeerHardwareAddr: uplinkMAC(h),
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
		if err := linkUpAtOnce(uplink); err != nil {
			return err
		}
		for _, f := range l.Underlay.List() {
			router := addresses[f].router(h.link)
			if err := address(uplink, netip.PrefixFrom(h.Addrs[f], router.Bits())); err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Gw: router.Addr().AsSlice()}); err != nil {
				return fmt.Errorf("add default route via %s: %w", router.Addr(), err)
			}
		}
		return nil
	})
}

// uplinkMAC is the MAC address of a host, known beforehand and kept when the
// device is made again. The end of the host's address tells it from others.
func uplinkMAC(h *Host) net.HardwareAddr {
	const local = 0x02 // locally administered
	addr := h.Addr().AsSlice()
	return append(net.HardwareAddr{local, 0}, addr[len(addr)-4:]...)
}

// manyNodes is from where on nodes do not ask for each other's MAC. The kernel
// has one table of neighbours for all namespaces, of 1024 rows unless the machine is set
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
			for _, addr := range peer.Addrs {
				if !addr.IsValid() {
					continue
				}
				err := netlink.NeighSet(&netlink.Neigh{
					LinkIndex:    link.Attrs().Index,
					IP:           addr.AsSlice(),
					HardwareAddr: uplinkMAC(peer),
					State:        netlink.NUD_PERMANENT,
				})
				if err != nil {
					return fmt.Errorf("add neighbour %s: %w", addr, err)
				}
			}
		}
		return nil
	})
}

// address gives a device an address, which is there at once: nobody else in the
// lab has it.
func address(name string, addr netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	ip := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ip, Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add address %s to %s: %w", addr, name, err)
	}
	return nil
}

// linkUpAtOnce is linkUp for a device that could have been up for long: its
// link-local IPv6 address is there and not looked for first (RFC 4862), which takes
// a second or two in which the kernel asks for no neighbour's address.
func linkUpAtOnce(name string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return err
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
