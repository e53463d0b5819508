package backend

import (
	"fmt"
	"net/netip"
)

// FDB is a row of a VXLAN device's forwarding database: frames to MAC travel
// to the VTEP at Dst.
type FDB struct {
	Dev string
	Dst netip.Addr
	MAC MAC
	// Other says that the frames go to another UDP port or VNI than the device's, or
	// by another device; false in what is wanted.
	Other bool
}

// Key is the device and the MAC address. Frames to a group or to no address known
// may travel to several VTEPs at once: rows for those, none of which we want,
// differ in the VTEP as well.
func (f FDB) Key() Key {
	k := Key{Kind: KindFDB, Name: f.Dev}
	copy(k.id[:], f.MAC[:])
	if !f.MAC.IsUnicast() {
		k.Name += " " + f.Dst.String()
	}
	return k
}

func (f FDB) String() string {
	text := fmt.Sprintf("fdb %s dev %s dst %s self permanent", f.MAC, f.Dev, f.Dst)
	if f.Other {
		text += " (with another port, VNI or device)"
	}
	return text
}
