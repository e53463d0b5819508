package kernel

import (
	"net/netip"
	"slices"
	"sync"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// domain is the prefixes in which every route of our protocol is ours: another
// daemon on this host, for another network, marks its own in the same way. It is
// for use by several goroutines.
type domain struct {
	mu       sync.Mutex
	prefixes []netip.Prefix
}

func (d *domain) has(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Own makes the routes into prefixes ours that have our protocol, beside those
// by our devices and those that are wanted. It is for the pods' networks, now and
// formerly: what was ours stays so, for it is to be removed.
func (k *Kernel) Own(prefixes ...netip.Prefix) {
	k.domain.mu.Lock()
	defer k.domain.mu.Unlock()
	for _, p := range prefixes {
		if p.IsValid() && !slices.Contains(k.domain.prefixes, p) {
			k.domain.prefixes = append(k.domain.prefixes, p)
		}
	}
}

// dumpWays adds our nexthop objects and routes.
func (k *Kernel) dumpWays(have, want backend.State, index map[int]string) error {
	ours := map[string]bool{} // devices
	for _, dev := range index {
		ours[dev] = true
	}
	name := k.name()
	nexthops, err := k.listNexthops(want, name)
	if err != nil {
		return err
	}
	var elsewhere []backend.Nexthop // by devices that are not ours
	devs := map[uint32]string{}     // of those
	for _, e := range nexthops {
		if n := e.(backend.Nexthop); ours[n.Dev] {
			have.Add(e)
		} else {
			elsewhere = append(elsewhere, n)
			devs[n.ID] = n.Dev
		}
	}
	routes, err := k.listRoutes(want, name)
	if err != nil {
		return err
	}
	led := map[uint32]bool{} // nexthops elsewhere of our routes
	for _, e := range routes {
		r := e.(backend.Route)
		byOurs := ours[r.Dev] || r.Nexthop != 0 && have[backend.Nexthop{ID: r.Nexthop}.Key()] != nil
		if byOurs || want[r.Key()] != nil || k.domain.has(r.Dst.Addr()) {
			have.Add(e)
			if devs[r.Nexthop] != "" {
				led[r.Nexthop] = true
			}
		}
	}
	for _, n := range elsewhere {
		// One that no route needs any more tells whose it is by its id, which is
		// the first address of a subnet, or by its gateway.
		if led[n.ID] || want[n.Key()] != nil || k.domain.has(n.Subnet()) || k.domain.has(n.Via) {
			have.Add(n)
		}
	}
	return nil
}

// isStrangers reports whether the message of a route of our protocol is of one
// that is not ours.
func (k *Kernel) isStrangers(data []byte, d *devices) bool {
	dst := routeDst(data)
	attrs, err := parseAttributes(data[unix.SizeofRtMsg:])
	if err != nil || !dst.IsValid() || len(attrs[unix.RTA_OIF]) < 4 {
		return false
	}
	return d.ours[int(nl.NativeEndian().Uint32(attrs[unix.RTA_OIF]))] == "" && !k.domain.has(dst.Addr())
}

// isStrangersNexthop reports whether the message of a nexthop of our protocol is of
// one that is not ours. The id of one for IPv6 does not tell.
func (k *Kernel) isStrangersNexthop(data []byte, d *devices) bool {
	attrs, err := parseAttributes(data[sizeofNhmsg:])
	if err != nil || (*nhmsg)(unsafe.Pointer(&data[0])).Family != unix.AF_INET {
		return false
	}
	n := backend.Nexthop{ID: attrs.uint32(unix.NHA_ID)}
	return d.ours[int(attrs.uint32(unix.NHA_OIF))] == "" && !k.domain.has(n.Subnet()) && !k.domain.has(attrs.addr(unix.NHA_GATEWAY))
}
