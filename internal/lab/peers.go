package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"tulle/subnet"
)

// WaitPeers returns when the kernel of every node has a route to the subnet of
// every other that the network's backend reaches: a daemon is ready as soon as it can serve the peers it knows,
// and hears of those that came up with it a moment later.
func (l *Lab) WaitPeers(ctx context.Context) error {
	ctx, stop := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not all there within %s", startTimeout))
	defer stop()
	subnets := map[*Host][2]netip.Prefix{}
	for _, h := range l.Nodes() {
		file, err := h.Subnet()
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		subnets[h] = file.Subnets
	}
	for _, h := range l.Nodes() {
		for {
			missing, err := h.unrouted(subnets)
			if err != nil {
				return err
			}
			if len(missing) == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: routes to %s: %w%s", h.Name, missing, context.Cause(ctx), h.logTail(daemonName+".log"))
			case <-time.After(pollEvery):
			}
		}
	}
	return nil
}

// unrouted lists the subnets of other hosts that the host's kernel has no route to.
func (h *Host) unrouted(subnets map[*Host][2]netip.Prefix) ([]netip.Prefix, error) {
	have := map[netip.Prefix]bool{}
	err := h.Net(func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			err = nil // it changes just now: whatever is missing is looked for again
		}
		for _, r := range routes {
			if p, ok := prefixOf(r.Dst); ok {
				have[p] = true
			}
		}
		return err
	})
	var missing []netip.Prefix
	for peer, both := range subnets {
		if peer == h || h.lab.backend == subnet.HostGW && peer.link != h.link {
			continue
		}
		for _, s := range both {
			if s = s.Masked(); s.IsValid() && !have[s] {
				missing = append(missing, s)
			}
		}
	}
	return missing, err
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}
