package main

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pod is the network namespace of a pod.
type pod struct {
	ns ns.NetNS
	h  *netlink.Handle
}

func openPod(path string) (*pod, error) {
	n, err := ns.GetNS(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in %s: %w", path, err), n.Close())
	}
	return &pod{n, h}, nil
}

func (p *pod) close() {
	p.h.Close()
	// Nothing is written through this descriptor that a late error could concern.
	_ = p.ns.Close()
}

func (p *pod) fd() int { return int(p.ns.Fd()) }

// link returns the interface of that name, or nil when there is none.
func (p *pod) link(name string) (netlink.Link, error) {
	link, err := p.h.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", name, p.ns.Path(), err)
	}
	return link, nil
}

// configure gives the interface its addresses and routes and sets it up.
func (p *pod) configure(ifName string, addrs []address, routes []route) error {
	link, err := p.h.LinkByName(ifName)
	if err != nil {
		return fmt.Errorf("look up %s in %s: %w", ifName, p.ns.Path(), err)
	}
	six := slices.ContainsFunc(addrs, func(a address) bool { return isIPv6(a.Prefix) })
	err = p.ns.Do(func(ns.NetNS) error {
		conf, err := openIPv6()
		if err != nil {
			return err
		}
		defer conf.close()
		if err := conf.prepare(ifName, six); err != nil {
			return err
		}
		return announcing(conf, ifName, addrs)
	})
	if err != nil {
		return err
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(a.Prefix), Flags: unix.IFA_F_NODAD}
		if err := p.h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s to %s in the pod: %w", a.Prefix, ifName, err)
		}
	}
	if err := p.h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s in the pod up: %w", ifName, err)
	}
	for _, r := range routes {
		if err := p.h.RouteAdd(r.kernel(link.Attrs().Index)); err != nil {
			return fmt.Errorf("add route %s dev %s in the pod: %w", r, ifName, err)
		}
	}
	return p.loopback()
}

// loopback sets lo up: the containers of a pod talk over it, and not every
// runtime does this.
func (p *pod) loopback() error {
	lo, err := p.h.LinkByName("lo")
	if err == nil && lo.Attrs().Flags&net.FlagUp == 0 {
		err = p.h.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo in the pod up: %w", err)
	}
	return nil
}
