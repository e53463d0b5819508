package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// floor is what the kernel alone takes for a pod: a veth made, attached to a bridge,
// given an address and a route, and up; by netlink from this process, without
// IPv6, files and programs. No plugin can be less dependent on the pods that are there.
func floor(rounds, pods int) (row, error) {
	r := row{what: fmt.Sprintf("kernel alone: with %d pods on the node against none, wall", pods)}
	node, err := newSwitch()
	if err != nil {
		return r, err
	}
	defer node.close()
	few, err := node.times(rounds)
	if err != nil {
		return r, err
	}
	for range pods {
		p, err := node.attach()
		if err != nil {
			return r, err
		}
		defer p.close()
	}
	time.Sleep(settle)
	full, err := node.times(rounds)
	if err != nil {
		return r, err
	}
	a, b := median(few), median(full)
	r.values = []string{fmt.Sprintf("%.2f times, %s ms more", float64(b)/float64(a), ms(b-a))}
	return r, nil
}

// bareSwitch is a namespace with a bridge and nothing else.
type bareSwitch struct {
	ns   ns.NetNS
	h    *netlink.Handle
	br   *netlink.Bridge
	made int
}

// barePod is a port of it with what is behind.
type barePod struct {
	ns   ns.NetNS
	h    *netlink.Handle
	host netlink.Link
}

// bareNamespace is a namespace whose interfaces have no IPv6.
func bareNamespace() (ns.NetNS, *netlink.Handle, error) {
	n, err := ns.TempNetNS()
	if err != nil {
		return nil, nil, err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err == nil {
		err = n.Do(func(ns.NetNS) error {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	return n, h, err
}

func newSwitch() (*bareSwitch, error) {
	n, h, err := bareNamespace()
	if err != nil {
		return nil, err
	}
	s := &bareSwitch{ns: n, h: h}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "br0", net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, err
	}
	br, err := h.LinkByName("br0")
	if err != nil {
		return nil, err
	}
	s.br = br.(*netlink.Bridge)
	return s, h.LinkSetUp(br)
}

func (s *bareSwitch) close() {
	s.h.Close()
	_ = s.ns.Close()
}

func (p *barePod) close() {
	p.h.Close()
	_ = p.ns.Close()
}

// attach makes the namespace, which takes no part in what is measured, and connects it.
func (s *bareSwitch) attach() (*barePod, error) {
	n, h, err := bareNamespace()
	if err != nil {
		return nil, err
	}
	p := &barePod{ns: n, h: h}
	return p, s.connect(p)
}

func (s *bareSwitch) connect(p *barePod) error {
	s.made++
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprint("port", s.made)
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(int(p.ns.Fd()))
	if err := s.h.LinkAdd(veth); err != nil {
		return err
	}
	p.host = veth
	if err := s.h.LinkSetMaster(veth, s.br); err != nil {
		return err
	}
	if err := s.h.LinkSetUp(veth); err != nil {
		return err
	}
	eth0, err := p.h.LinkByName("eth0")
	if err != nil {
		return err
	}
	ip := net.IPv4(10, 9, byte(s.made>>8), byte(s.made))
	if err := p.h.AddrAdd(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(16, 32)}}); err != nil {
		return err
	}
	if err := p.h.LinkSetUp(eth0); err != nil {
		return err
	}
	if err := p.h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(10, 9, 255, 254)}); err != nil {
		return err
	}
	for {
		l, err := s.h.LinkByName(attrs.Name)
		if err != nil || l.Attrs().OperState == netlink.OperUp {
			return err
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// times are those of connecting a pod, which goes again.
func (s *bareSwitch) times(rounds int) ([]time.Duration, error) {
	var all []time.Duration
	for range rounds {
		n, h, err := bareNamespace()
		if err != nil {
			return nil, err
		}
		p := &barePod{ns: n, h: h}
		start := time.Now()
		if err := s.connect(p); err != nil {
			return nil, err
		}
		all = append(all, time.Since(start))
		if err := s.h.LinkDel(p.host); err != nil {
			return nil, err
		}
		p.close()
	}
	return all, nil
}
