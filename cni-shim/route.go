package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// route is a route in a pod. Fields that are zero are the kernel's default.
type route struct {
	Dst      netip.Prefix
	Via      netip.Addr // in the configuration may be missing: the bridge
	MTU      int
	AdvMSS   int
	Priority int
	Table    int
	Scope    int
	// Implied says that the configuration does not tell Via. Then the result does
	// not tell it either, as that of the reference plugins.
	Implied bool
}

func (r route) String() string {
	if !r.Via.IsValid() {
		return r.Dst.String()
	}
	return fmt.Sprintf("%s via %s", r.Dst, r.Via)
}

// parseRoutes reads the field routes of ipam.
func parseRoutes(ipam *object) []route {
	var routes []route
	at := map[route]int{} // where they stand in the list
	for i, raw := range field[[]json.RawMessage](ipam, "routes", nil) {
		o := parseObject(raw, ipam.path+"routes["+strconv.Itoa(i)+"].", ipam.faults)
		if o.fields == nil {
			continue
		}
		r := route{
			Dst:      field(o, "dst", netip.Prefix{}),
			Via:      field(o, "gw", netip.Addr{}),
			MTU:      number(o, "mtu", 65535),
			AdvMSS:   number(o, "advmss", 65535),
			Priority: number(o, "priority", 1<<31-1),
			Table:    number(o, "table", 1<<31-1),
			Scope:    number(o, "scope", 255),
		}
		o.close()
		switch {
		case !o.has("dst"):
			o.fault("dst", "is missing; give the prefix that the route leads to")
		case !r.Dst.IsValid(): // told already
		case r.Dst.Addr().Is4In6():
			o.fault("dst", "%s is an IPv4 prefix in the clothes of IPv6", r.Dst)
		case r.Dst != r.Dst.Masked():
			o.fault("dst", "%s has bits set behind its prefix length; write %s", r.Dst, r.Dst.Masked())
		case r.Via.IsValid() && (r.Via.Is4() != r.Dst.Addr().Is4() || r.Via.Zone() != ""):
			o.fault("gw", "%s is not an %s address such as can lead to %s", r.Via, subnet.FamilyOf(r.Dst.Addr()), r.Dst)
		default:
			if first, taken := at[r.key()]; taken {
				o.fault("dst", "%s is that of routes[%d]; give another table or priority", r.Dst, first)
				continue
			}
			at[r.key()] = i
			routes = append(routes, r)
		}
	}
	return routes
}

// key is what a table of the kernel holds at most one route of.
func (r route) key() route {
	return route{Dst: r.Dst, Priority: r.Priority, Table: cmp.Or(r.Table, unix.RT_TABLE_MAIN)}
}

func number(o *object, key string, most int) int {
	n := field(o, key, 0)
	if n < 0 || n > most {
		o.fault(key, "%d is out of range: 0 to %d", n, most)
	}
	return n
}

// podRoutes are the routes of a pod: the configured ones, and the way through
// the bridge to everywhere, or to the other pods of the cluster alone when the
// bridge is not to be the default gateway.
func podRoutes(c netconf, f subnet.File) ([]route, error) {
	var routes []route
	configured := map[netip.Prefix]bool{}
	for i, r := range c.Routes {
		family := subnet.FamilyOf(r.Dst.Addr())
		if !f.Subnets[family].IsValid() {
			return nil, coded(types.ErrInvalidNetworkConfig, fmt.Errorf(
				"ipam.routes[%d].dst: %s: pods have no %s address, the subnet file %s names no subnet of that family",
				i, r.Dst, family, c.SubnetFile))
		}
		if !r.Via.IsValid() {
			r.Via, r.Implied = f.Subnets[family].Addr(), true
		}
		routes = append(routes, r)
		configured[r.Dst] = configured[r.Dst] || r.Table == 0 || r.Table == unix.RT_TABLE_MAIN
	}
	for family, s := range f.Subnets {
		if !s.IsValid() {
			continue
		}
		r := route{Dst: f.Networks[family].Masked(), Via: s.Addr(), Implied: true}
		if c.DefaultGateway {
			r = route{Dst: netip.PrefixFrom(zero(s.Addr()), 0), Via: s.Addr()}
		}
		if !configured[r.Dst] {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

// zero is the address of all zeros in the family of a.
func zero(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// kernel is the route as netlink wants it.
func (r route) kernel(link int) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link,
		Dst:       ipNet(r.Dst),
		Gw:        r.Via.AsSlice(),
		MTU:       r.MTU,
		AdvMSS:    r.AdvMSS,
		Priority:  r.Priority,
		Table:     r.Table,
		Scope:     netlink.Scope(r.Scope),
	}
}

// result is the route as the runtime wants it.
func (r route) result() *types.Route {
	t := &types.Route{Dst: *ipNet(r.Dst), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority}
	if !r.Implied {
		t.GW = r.Via.AsSlice()
	}
	if r.Table != 0 {
		t.Table = &r.Table
	}
	if r.Scope != 0 {
		t.Scope = &r.Scope
	}
	return t
}
