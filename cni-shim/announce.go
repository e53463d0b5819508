package main

import (
	"fmt"
	"net"
)

// announce tells the neighbours, the bridge among them, which MAC the pod's
// addresses have now. An address that another pod had, with another MAC, is then
// reachable at once and not when the old entry has gone stale.
//
// The kernel sends the announcements (a gratuitous ARP request, an unsolicited
// neighbour advertisement): configure has asked it to do so when the MAC changes,
// and it takes setting the one that is there for a change. Sending them through a
// packet socket would take 10 ms more, because closing one waits for all processors.
func (p *pod) announce(ifName string, mac net.HardwareAddr) error {
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

// announcing makes the kernel announce an interface's addresses when its MAC changes;
// those of IPv6 only where there are some, because the bridge sends each announcement
// to all pods.
func announcing(dev string, six bool) error {
	if err := setSysctl("net/ipv4/conf/"+dev+"/arp_notify", "1"); err != nil || !six {
		return err
	}
	return setIPv6(dev, "ndisc_notify", "1")
}
