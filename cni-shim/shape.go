package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a pod receives leaves the host through the host's end of its veth, and is
// shaped there. What it sends comes in there, where nothing can be queued; so it is
// led through an ifb device and shaped when it leaves that.
const shaperPrefix = "ifb."

func (a attachment) shaperName() string {
	return shaperPrefix + strings.TrimPrefix(a.hostName(), hostPrefix)
}

// vethOf is the host's end whose traffic a device shapes; empty when it is no
// shaper.
func vethOf(name string) string {
	digits, ok := strings.CutPrefix(name, shaperPrefix)
	if !ok || !isHostName(hostPrefix+digits) {
		return ""
	}
	return hostPrefix + digits
}

// shape limits the bandwidth of the pod.
func (plan addPlan) shape(h *netlink.Handle, v veth) error {
	w := plan.conf.Wish.Bandwidth
	if w == (bandwidth{}) {
		return nil
	}
	host, err := h.LinkByName(v.Host)
	if err != nil {
		return fmt.Errorf("look up %s: %w", v.Host, err)
	}
	if w.IngressRate > 0 {
		if err := bucket(h, host, w.IngressRate, w.IngressBurst, v.MTU); err != nil {
			return err
		}
	}
	if w.EgressRate == 0 {
		return nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group, attrs.Flags = plan.who.shaperName(), v.MTU, v.Group, net.FlagUp
	if err := h.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s to shape what the pod sends: %w", attrs.Name, err)
	}
	step("shaper")
	ifb, err := h.LinkByName(attrs.Name)
	if err != nil {
		return fmt.Errorf("look up %s: %w", attrs.Name, err)
	}
	if err := redirect(h, host, ifb); err != nil {
		return err
	}
	return bucket(h, ifb, w.EgressRate, w.EgressBurst, v.MTU)
}

// bucket puts a token bucket at the head of a device's queue. A packet waits there
// for at most 25 ms, as with the reference plugin, and the bucket holds at least
// one packet.
func bucket(h *netlink.Handle, l netlink.Link, rate, burst uint64, mtu int) error {
	const latency, etherHeader = 25, 14 // ms, bytes
	bytes, size := rate/8, max(burst/8, uint64(mtu)+etherHeader)
	size = min(size, 1<<32-1)
	// Rounded down the bucket could hold less than a packet where the rate is high.
	ticks := math.Ceil(float64(size) * 1e6 / float64(bytes) * netlink.TickInUsec())
	q := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Buffer:     uint32(min(ticks, 1<<32-1)),
		Limit:      uint32(min(bytes/1000*latency+size, 1<<32-1)),
	}
	if err := h.QdiscReplace(q); err != nil {
		return fmt.Errorf("limit %s to %d bit/s: %w", l.Attrs().Name, rate, err)
	}
	return nil
}

// redirect leads what comes in from one device through the other.
func redirect(h *netlink.Handle, from, through netlink.Link) error {
	in := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: from.Attrs().Index, Parent: netlink.HANDLE_INGRESS}}
	err := h.QdiscReplace(in)
	if err == nil {
		all := &netlink.U32{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: from.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL,
			},
			Actions: []netlink.Action{netlink.NewMirredAction(through.Attrs().Index)},
		}
		err = h.FilterAdd(all)
	}
	if err != nil {
		return fmt.Errorf("lead what %s receives through %s: %w", from.Attrs().Name, through.Attrs().Name, err)
	}
	return nil
}

// unshape removes what shape made beside the veth, with which the rest goes.
func unshape(h *netlink.Handle, a attachment) error {
	_, err := deleteLink(h, a.shaperName())
	return err
}
