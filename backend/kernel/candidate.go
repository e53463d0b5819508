package kernel

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// Candidates lists the devices of the network namespace that could be the
// underlay.
func Candidates() ([]backend.Candidate, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	metrics, err := defaultRoutes()
	if err != nil {
		return nil, err
	}
	var found []backend.Candidate
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := globalAddrs(link)
		if err != nil {
			return nil, err
		}
		metric, ok := metrics[attrs.Index]
		if !ok {
			metric = backend.NoDefault
		}
		if len(addrs) > 0 {
			found = append(found, backend.Candidate{Dev: attrs.Name, Addrs: addrs, MTU: attrs.MTU, Metric: metric})
		}
	}
	return found, nil
}

func globalAddrs(link netlink.Link) ([]netip.Prefix, error) {
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	var addrs []netip.Prefix
	for _, a := range list {
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY) != 0 && a.IP.To4() == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		length, _ := a.Mask.Size()
		if ok {
			addrs = append(addrs, netip.PrefixFrom(ip.Unmap(), length))
		}
	}
	return addrs, nil
}

// defaultRoutes is the lowest metric of a default route by each device's index.
func defaultRoutes() (map[int]int, error) {
	metrics := map[int]int{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if ones := 0; r.Dst != nil {
				if ones, _ = r.Dst.Mask.Size(); ones > 0 {
					continue
				}
			}
			if m, ok := metrics[r.LinkIndex]; !ok || r.Priority < m {
				metrics[r.LinkIndex] = r.Priority
			}
		}
		if len(metrics) > 0 {
			break // an IPv6 default route only counts where there is none for IPv4
		}
	}
	return metrics, nil
}

// RouteTo asks the kernel how it reaches an address.
func RouteTo(a netip.Addr) (backend.Hop, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return backend.Hop{}, fmt.Errorf("no route to %s: %w", a, err)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return backend.Hop{}, fmt.Errorf("device towards %s: %w", a, err)
	}
	src, _ := netip.AddrFromSlice(routes[0].Src)
	return backend.Hop{Dev: link.Attrs().Name, Src: src.Unmap()}, nil
}
