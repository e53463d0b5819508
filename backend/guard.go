package backend

import (
	"fmt"

	"tulle/subnet"
)

// GuardMode says how much of a VXLAN packet is held against the Sources before
// it is unpacked.
type GuardMode uint8

// The modes. GuardVTEP is for clusters where nodes forward packets that come from
// outside of the pods' network and keep their source.
const (
	GuardOff    GuardMode = iota // nothing
	GuardVTEP                    // the address of the host that sent it
	GuardStrict                  // that, and the source of the pod's packet inside
)

var guardModes = [...]string{GuardOff: "off", GuardVTEP: "vtep", GuardStrict: "strict"}

func (m GuardMode) String() string { return guardModes[m] }

// ParseGuardMode reads what String wrote.
func ParseGuardMode(text string) (GuardMode, error) {
	for m, name := range guardModes {
		if text == name {
			return GuardMode(m), nil
		}
	}
	return 0, fmt.Errorf("%q is none of strict, vtep and off", text)
}

// Guard drops the packets to a VXLAN device that no Source allows.
type Guard struct {
	Dev   string
	Mode  GuardMode
	VTEPs subnet.Family // of the underlay
	Port  int           // UDP
	VNI   int
	// Lens are the usual lengths of the peers' subnets by Family, 0 for a family
	// without any. Subnets of another length take a slower look-up.
	Lens [2]int
	// Other says that something else stands there, or a part of the Guard alone;
	// false in what is wanted.
	Other bool
}

// Key is the device.
func (g Guard) Key() Key { return Key{Kind: KindGuard, Name: g.Dev} }

func (g Guard) String() string {
	if g.Other {
		return fmt.Sprintf("guard dev %s altered or incomplete", g.Dev)
	}
	return fmt.Sprintf("guard dev %s id %d dstport %d on %s mode %s", g.Dev, g.VNI, g.Port, g.VTEPs, g.Mode)
}
