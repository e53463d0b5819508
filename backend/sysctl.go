package backend

import (
	"strings"

	"tulle/subnet"
)

// Sysctl is a kernel setting. It is set and never taken back: others may have
// come to rely on it.
type Sysctl struct {
	Name  string // as a path below /proc/sys: "net/ipv4/ip_forward"
	Value string
	// Optional says that the setting belongs to a module which the host may do
	// without, or to a device; while it does not exist, there is nothing to set.
	Optional bool
	// Ours says that the setting is of a device of ours. It is set as soon as the
	// device is made.
	Ours bool
}

// IPv6Forwarding makes the host forward IPv6 packets.
const IPv6Forwarding = "net/ipv6/conf/all/forwarding"

// Key is the setting's name. IPv6Forwarding comes after all others: as it is
// switched on, the kernel forgets the routers of devices that are not to follow
// their advertisements from then on (accept_ra=1).
func (s Sysctl) Key() Key {
	k := Key{Kind: KindSysctl, Name: s.Name}
	if s.Name == IPv6Forwarding {
		k.bits = 1
	}
	return k
}

// Dev is the device that the setting is of; empty for one of the whole host.
func (s Sysctl) Dev() string {
	_, rest, _ := strings.Cut(s.Name, "/conf/")
	dev, _, _ := strings.Cut(rest, "/")
	if dev == "all" || dev == "default" {
		return ""
	}
	return dev
}

func (s Sysctl) String() string { return "sysctl " + s.Name + "=" + s.Value }

// Forwarding lets packets that come in by a device go on to pods. It is a row of
// its own, because the setting of all devices is only copied to each when that
// is written.
func Forwarding(f subnet.Family, dev string) Sysctl {
	return Sysctl{Name: [2]string{"net/ipv4/conf/", "net/ipv6/conf/"}[f] + dev + "/forwarding", Value: "1", Optional: true}
}
