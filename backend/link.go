package backend

import (
	"fmt"
	"net/netip"
	"strings"
)

// Link is a VXLAN device.
type Link struct {
	Name  string
	Owner string // kept as the device's alias; says whose it is
	Up    bool
	MAC   MAC
	MTU   int
	// Master is the bridge or the like that somebody put the device into; empty
	// in what is wanted.
	Master string

	// What follows can't be changed while the device exists.
	VNI      int
	Port     int        // UDP, in host byte order
	Local    netip.Addr // underlay address
	Underlay string     // name of the underlay device
	Learning bool
	GBP      bool
	// Foreign is the type of a device that has our name and is no VXLAN device
	// of this scheme; empty in what is wanted.
	Foreign string
}

// Key is the device's name.
func (l Link) Key() Key { return Key{Kind: KindLink, Name: l.Name} }

func (l Link) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "link %s", l.Name)
	if l.Foreign != "" {
		fmt.Fprintf(&b, " type %s", l.Foreign)
		return b.String()
	}
	if l.Up {
		b.WriteString(" up")
	} else {
		b.WriteString(" down")
	}
	if l.Master != "" {
		fmt.Fprintf(&b, " master %s", l.Master)
	}
	fmt.Fprintf(&b, " address %s mtu %d type vxlan id %d local %s dev %s dstport %d", l.MAC, l.MTU, l.VNI, l.Local, l.Underlay, l.Port)
	if l.Learning {
		b.WriteString(" learning")
	} else {
		b.WriteString(" nolearning")
	}
	if l.GBP {
		b.WriteString(" gbp")
	}
	fmt.Fprintf(&b, " alias %q", l.Owner)
	return b.String()
}

// Changeable reports whether the device can become want without being made
// again.
func (l Link) Changeable(want Link) bool {
	l.Owner, l.Up, l.MAC, l.MTU, l.Master = want.Owner, want.Up, want.MAC, want.MTU, want.Master
	return l == want
}
