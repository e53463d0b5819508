package main

import (
	"fmt"
	"net"
	"slices"
)

// announce tells the neighbours, the bridge among them, which MAC the pod's
// addresses have now. An address that another pod had, with another MAC, is then
// reachable at once and not when the old entry has gone stale.
//
// The kernel sends the announcements (a gratuitous ARP request, an unsolicited
// neighbour advertisement): configure has asked it to do so when the MAC changes,
// and it takes setting the one that is there for a change. Sending them through a
// packet socket would take 10 ms more, because closing one waits for all processors.
//
// The bridge sends each of them to all pods of the node, which with hundreds of pods
// is the dearest part of an ADD. So only addresses are announced that neighbours may
// know with another MAC: see address.Announce.
func (p *pod) announce(ifName string, mac net.HardwareAddr, addrs []address) error {
	if !slices.ContainsFunc(addrs, func(a address) bool { return a.Announce }) {
		return nil
	}
	link, err := p.link(ifName)
	if err != nil {
		return err
	}
	if link == nil {
		return fmt.Errorf("%s in the pod went away", ifName)
	}
	if err := p.h.LinkSetHardwareAddr(link, mac); err != nil {
		return fmt.Errorf("announce the pod's addresses on %s: %w", ifName, err)
	}
	return nil
}

// announcing makes the kernel announce an interface's addresses when its MAC changes,
// those of the families that need it.
func announcing(six ipv6, dev string, addrs []address) error {
	for _, a := range addrs {
		var err error
		switch {
		case !a.Announce:
		case isIPv6(a.Prefix):
			err = six.set(dev, "ndisc_notify", "1")
		default:
			err = setSysctl("net/ipv4/conf/"+dev+"/arp_notify", "1")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
