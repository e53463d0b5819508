package backend

import (
	"fmt"
	"net/netip"
	"strings"
)

// Source says from where a peer's packets come: from its VTEP, and inside of
// them from its subnets. What no Source allows is dropped where there is a Guard.
type Source struct {
	Dev     string // the VXLAN device that receives them
	VTEP    netip.Addr
	Subnets [2]netip.Prefix // by Family
	// Odd says that a subnet's length is not that of the Guard's Lens.
	Odd bool

	// Stray numbers what a VTEP is allowed to send beyond its row without number;
	// 0 in what is wanted.
	Stray uint8
	// Unlisted says that the subnets are allowed, but not their VTEP; false in
	// what is wanted.
	Unlisted bool
}

// Key is the device and the VTEP's address.
func (s Source) Key() Key {
	return Key{Kind: KindSource, Name: s.Dev, bits: s.Stray, id: s.VTEP.As16()}
}

func (s Source) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "source %s dev %s from", s.VTEP, s.Dev)
	if s.Subnets == [2]netip.Prefix{} {
		b.WriteString(" nothing")
	}
	for _, p := range s.Subnets {
		if p.IsValid() {
			b.WriteByte(' ')
			b.WriteString(p.String())
		}
	}
	switch {
	case s.Stray != 0:
		b.WriteString(" (stray)")
	case s.Unlisted:
		b.WriteString(" (not listed as a VTEP)")
	}
	return b.String()
}
