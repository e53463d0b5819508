package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// veth is the pair that joins a pod to the bridge.
type veth struct {
	Host, Pod string // names of the two ends
	MTU       int
	PodMAC    net.HardwareAddr
	Group     uint32
	Alias     string
	Hairpin   bool // a pod may reach itself through a service's address
}

// create makes the pair with one message, each end in its namespace from the
// beginning, and attaches the host's end to the bridge. The pod's end is down. When it fails
// nothing is left. A pair that a dead attempt for the same attachment left is
// replaced: the caller knows that the pod has no interface of that name.
func (v veth) create(h *netlink.Handle, six ipv6, pod int, br *netlink.Bridge) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group = v.Host, v.MTU, v.Group
	link := netlink.NewVeth(attrs)
	link.PeerName, link.PeerHardwareAddr, link.PeerNamespace = v.Pod, v.PodMAC, netlink.NsFd(pod)

	err := h.LinkAdd(link)
	if errors.Is(err, unix.EEXIST) {
		if _, err := deleteLink(h, v.Host); err != nil {
			return nil, err
		}
		err = h.LinkAdd(link)
	}
	if err != nil {
		return nil, fmt.Errorf("make veth %s with peer %s in the pod: %w", v.Host, v.Pod, err)
	}
	step("veth")
	if err := v.attach(six, link, br); err != nil {
		_, undo := deleteLink(h, v.Host)
		return nil, then(err, undo)
	}
	return link, nil
}

// attach makes the host's end a port of the bridge and sets it up, with one message.
//
// A port has no use for addresses. IPv6 would give it one all the same, with routes
// and groups in the host's tables, and the kernel walks those for each pod that
// comes or goes.
func (v veth) attach(six ipv6, link netlink.Link, br *netlink.Bridge) error {
	if err := six.set(v.Host, "disable_ipv6", "1"); err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(br.Index))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(v.Alias)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("attach %s to bridge %s, with the alias %q: %w", v.Host, br.Name, v.Alias, err)
	}
	return nil
}

// reflect switches hairpin mode on. Before that the pod's addresses are announced:
// in hairpin mode the announcement would come back to the pod, whose kernel
// complains that somebody else has its address.
func (v veth) reflect(h *netlink.Handle, link netlink.Link) error {
	if !v.Hairpin {
		return nil
	}
	if err := h.LinkSetHairpin(link, true); err != nil {
		return fmt.Errorf("set hairpin on %s: %w", v.Host, err)
	}
	return nil
}

// awaitUp waits until the bridge forwards what comes from the pod. The kernel
// learns from a queue of its own that the pod's end is up; that takes less than
// a millisecond, and until then packets are lost.
func awaitUp(h *netlink.Handle, name string) (netlink.Link, error) {
	const most, longest = 10 * time.Second, 10 * time.Millisecond
	for waited, pause := time.Duration(0), 100*time.Microsecond; ; pause = min(2*pause, longest) {
		link, err := h.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return link, nil
		}
		if waited > most {
			return nil, fmt.Errorf("%s is %s and does not come up", name, link.Attrs().OperState)
		}
		time.Sleep(pause)
		waited += pause
	}
}

// deleteLink removes a link, and with it its peer, and reports whether there was one.
func deleteLink(h *netlink.Handle, name string) (bool, error) {
	return deleteLinkBy(h, name, h.LinkDel)
}

// deleteLinkBy is deleteLink with a way to do it.
func deleteLinkBy(h *netlink.Handle, name string, del func(netlink.Link) error) (bool, error) {
	link, err := h.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return false, nil
	}
	if err == nil {
		err = del(link)
	}
	if errors.Is(err, unix.ENODEV) { // went at the same moment
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete %s: %w", name, err)
	}
	return true, nil
}
