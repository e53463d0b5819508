package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Bridge is a bridge of the network namespace. It is not made here: the CNI plugin
// makes those of pods.
type Bridge struct {
	Name  string
	Addrs []netip.Prefix // of global scope
	Ports []string       // names of the devices attached to it
}

// Bridges lists all bridges.
func Bridges() ([]Bridge, error) {
	links, err := listAll(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	addrs, err := globalAddrs()
	if err != nil {
		return nil, err
	}
	ports := map[int][]string{} // by the bridge's index
	for _, link := range links {
		attrs := link.Attrs()
		ports[attrs.MasterIndex] = append(ports[attrs.MasterIndex], attrs.Name)
	}
	var found []Bridge
	for _, link := range links {
		if link.Type() != "bridge" {
			continue
		}
		found = append(found, Bridge{link.Attrs().Name, addrs[link.Attrs().Index], ports[link.Attrs().Index]})
	}
	return found, nil
}

// DeleteBridge deletes a bridge with its addresses and the routes by it.
func (k *Kernel) DeleteBridge(name string) error {
	if err := k.deleteLink(name); err != nil {
		return fmt.Errorf("delete bridge %s: %w", name, err)
	}
	return nil
}
