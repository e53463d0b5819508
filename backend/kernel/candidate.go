package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// Candidates lists the devices of the network namespace that could be the
// underlay.
func Candidates() ([]backend.Candidate, error) {
	links, err := listAll(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	metrics, err := defaultRoutes()
	if err != nil {
		return nil, err
	}
	addresses, err := globalAddrs()
	if err != nil {
		return nil, err
	}
	var found []backend.Candidate
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs := addresses[attrs.Index]
		if len(addrs) == 0 {
			continue
		}
		c := backend.Candidate{Dev: attrs.Name, Addrs: addrs, MTU: attrs.MTU}
		for f := range metrics {
			c.Metrics[f] = backend.NoDefault
			if m, ok := metrics[f][attrs.Index]; ok {
				c.Metrics[f] = m
			}
		}
		c.Advertised = slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) && followsRouters(attrs.Name)
		found = append(found, c)
	}
	return found, nil
}

// followsRouters reports whether the kernel follows the router advertisements
// that come to a device: always, or as long as it does not forward.
func followsRouters(dev string) bool {
	conf := func(name string) string {
		text, err := os.ReadFile(filepath.Join(procSys, "net/ipv6/conf", dev, name))
		if err != nil {
			return "" // it has just gone
		}
		return strings.TrimSpace(string(text))
	}
	accept := conf("accept_ra")
	return accept == "2" || accept == "1" && conf("forwarding") == "0"
}

// HasIPv6 reports whether the kernel has IPv6 at all.
func HasIPv6() bool {
	_, err := os.Stat(filepath.Join(procSys, "net/ipv6/conf"))
	return err == nil
}

// listAll lists again what changed while it was listed, so that a part was missing.
func listAll[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// globalAddrs is the addresses of global scope by the device's index.
func globalAddrs() (map[int][]netip.Prefix, error) {
	list, err := listAll(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	four, six := map[int][]netip.Prefix{}, map[int][]netip.Prefix{}
	for _, a := range list {
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY) != 0 && a.IP.To4() == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		length, _ := a.Mask.Size()
		switch p := netip.PrefixFrom(ip.Unmap(), length); {
		case !ok:
		case p.Addr().Is4():
			four[a.LinkIndex] = append(four[a.LinkIndex], p)
		default:
			six[a.LinkIndex] = append(six[a.LinkIndex], p)
		}
	}
	for dev, addrs := range six {
		slices.Reverse(addrs) // the kernel lists the newest first, and those of IPv4 the other way round
		four[dev] = append(four[dev], addrs...)
	}
	return four, nil
}

// defaultRoutes is the lowest metric of a default route by family and each
// device's index.
func defaultRoutes() ([2]map[int]int, error) {
	metrics := [2]map[int]int{{}, {}}
	for f, family := range [2]int{subnet.IPv4: netlink.FAMILY_V4, subnet.IPv6: netlink.FAMILY_V6} {
		routes, err := listAll(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return metrics, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if ones := 0; r.Dst != nil {
				if ones, _ = r.Dst.Mask.Size(); ones > 0 {
					continue
				}
			}
			devs := []int{r.LinkIndex}
			for _, hop := range r.MultiPath {
				devs = append(devs, hop.LinkIndex)
			}
			for _, dev := range devs {
				if m, ok := metrics[f][dev]; !ok || r.Priority < m {
					metrics[f][dev] = r.Priority
				}
			}
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
