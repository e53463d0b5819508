package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// limit is one way of a pod's traffic with its token bucket, as CHECK sees it.
type limit struct {
	Dev  string
	Rate uint64 // bytes per second
}

func (l limit) String() string {
	what := "receives"
	if vethOf(l.Dev) != "" {
		what = "sends"
	}
	return fmt.Sprintf("limit of %d bit/s for what the pod %s is missing on %s", l.Rate*8, what, l.Dev)
}

// wantLimits are the limits of the bandwidth, and the shaper that the traffic is led through,
// if any.
func (b bandwidth) wantLimits(a attachment) (limits []limit, through string) {
	if b.IngressRate > 0 {
		limits = append(limits, limit{a.hostName(), b.IngressRate / 8})
	}
	if b.EgressRate > 0 {
		through = a.shaperName()
		limits = append(limits, limit{through, b.EgressRate / 8})
	}
	return limits, through
}

// haveLimits are those that there are.
func haveLimits(h *netlink.Handle, a attachment) (limits []limit, through string, err error) {
	links := map[string]netlink.Link{}
	for _, dev := range []string{a.hostName(), a.shaperName()} {
		link, err := h.LinkByName(dev)
		if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("look up %s: %w", dev, err)
		}
		links[dev] = link
		qdiscs, err := dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(link) })
		if err != nil {
			return nil, "", fmt.Errorf("list queues of %s: %w", dev, err)
		}
		for _, q := range qdiscs {
			if tbf, ok := q.(*netlink.Tbf); ok {
				limits = append(limits, limit{dev, tbf.Rate})
			}
		}
	}
	host, shaper := links[a.hostName()], links[a.shaperName()]
	if host == nil || shaper == nil {
		return limits, "", nil
	}
	filters, err := dump(func() ([]netlink.Filter, error) { return h.FilterList(host, netlink.MakeHandle(0xffff, 0)) })
	if err != nil {
		return nil, "", fmt.Errorf("list filters of %s: %w", a.hostName(), err)
	}
	leads := func(act netlink.Action) bool {
		m, ok := act.(*netlink.MirredAction)
		return ok && m.Ifindex == shaper.Attrs().Index
	}
	if slices.ContainsFunc(filters, func(f netlink.Filter) bool {
		u, ok := f.(*netlink.U32)
		return ok && slices.ContainsFunc(u.Actions, leads)
	}) {
		through = a.shaperName()
	}
	return limits, through, nil
}
