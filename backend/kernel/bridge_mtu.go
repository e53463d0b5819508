package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"tulle/backend"
)

// dumpBridges adds the wanted bridges, and returns those that are there by their
// index. One that is not, because no pod was started yet, or whose MTU is small
// enough, is as wanted.
func (k *Kernel) dumpBridges(have, want backend.State) (map[int]backend.Bridge, error) {
	there := map[int]backend.Bridge{}
	for key, e := range want {
		if key.Kind != backend.KindBridge {
			continue
		}
		b := e.(backend.Bridge)
		link, err := k.bridge(b.Addr)
		if err != nil {
			return nil, err
		}
		if link != nil {
			there[link.Index] = b
			b.MTU = max(b.MTU, link.MTU)
		}
		have.Add(b)
	}
	return there, nil
}

// bridge finds a bridge by its address; nil if there is none.
func (k *Kernel) bridge(addr netip.Addr) (*netlink.Bridge, error) {
	links, err := k.links.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, link := range links {
		br, ok := link.(*netlink.Bridge)
		if !ok {
			continue
		}
		addrs, err := k.links.AddrList(br, int(family(addr)))
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list addresses of %s: %w", br.Name, err)
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == addr {
				return br, nil
			}
		}
	}
	return nil, nil
}

// setBridge gives a bridge another MTU. It becomes larger only if it was as large
// as was wanted before, and not larger than its ports: pods that have started keep
// theirs, and what is larger would be lost on the way to them without a word.
func (k *Kernel) setBridge(c backend.Change) error {
	want, ok := c.Want.(backend.Bridge)
	if !ok {
		return nil // the bridge is not ours to delete
	}
	br, err := k.bridge(want.Addr)
	if br == nil || err != nil {
		return err
	}
	mtu := want.MTU
	if had, ok := c.Have.(backend.Bridge); br.MTU < mtu && (!ok || br.MTU != had.MTU) {
		return nil
	}
	links, err := k.links.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list ports of %s: %w", br.Name, err)
	}
	for _, port := range links {
		if port.Attrs().MasterIndex == br.Index && br.MTU < mtu {
			mtu = max(br.MTU, min(mtu, port.Attrs().MTU))
		}
	}
	if mtu == br.MTU {
		return nil
	}
	return k.links.LinkSetMTU(br, mtu)
}
