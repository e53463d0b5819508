package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"tulle/backend"
)

// dumpBridges adds the wanted bridges, and returns those that are there by their
// index, with the MTU that they should have. One that is not there, because no pod
// was started yet, is as wanted.
func (k *Kernel) dumpBridges(have, want backend.State) (map[int]backend.Bridge, error) {
	there := map[int]backend.Bridge{}
	for key, e := range want {
		if key.Kind != backend.KindBridge {
			continue
		}
		b := e.(backend.Bridge)
		br, mtu, err := k.bridge(b)
		if err != nil {
			return nil, err
		}
		if br != nil {
			there[br.Index] = backend.Bridge{Addr: b.Addr, MTU: mtu}
			if br.MTU != mtu {
				b.MTU, b.Unfit = br.MTU, true
			}
		}
		have.Add(b)
	}
	return there, nil
}

// bridge finds a bridge by its address, and the MTU that it should have. Pods that
// have started keep theirs, and what is larger would be lost on the way to them
// without a word, so it is the smallest of all. There may be no such bridge.
func (k *Kernel) bridge(want backend.Bridge) (br *netlink.Bridge, mtu int, err error) {
	links, err := listAll(k.links.LinkList)
	if err != nil {
		return nil, 0, fmt.Errorf("list devices: %w", err)
	}
	addrs, err := listAll(func() ([]netlink.Addr, error) { return k.links.AddrList(nil, int(family(want.Addr))) })
	if err != nil {
		return nil, 0, fmt.Errorf("list addresses: %w", err)
	}
	for _, link := range links {
		b, ok := link.(*netlink.Bridge)
		if ok && br == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
			ip, _ := netip.AddrFromSlice(a.IP)
			return a.LinkIndex == b.Index && ip.Unmap() == want.Addr
		}) {
			br = b
		}
	}
	mtu = want.MTU
	for _, port := range links {
		if br != nil && port.Attrs().MasterIndex == br.Index {
			mtu = min(mtu, port.Attrs().MTU)
		}
	}
	return br, mtu, nil
}

// setBridge gives a bridge the MTU that it should have.
func (k *Kernel) setBridge(c backend.Change) error {
	want, ok := c.Want.(backend.Bridge)
	if !ok {
		return nil // the bridge is not ours to delete
	}
	br, mtu, err := k.bridge(want)
	if br == nil || err != nil || br.MTU == mtu {
		return err
	}
	return k.links.LinkSetMTU(br, mtu)
}
