package backend

import (
	"fmt"
	"net/netip"
)

// Addr is an address of one of our devices.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // the address with its length
}

// Key is the device and the address with its length.
func (a Addr) Key() Key { return addrKey(KindAddr, a.Dev, a.Prefix) }

func (a Addr) String() string { return fmt.Sprintf("address %s dev %s", a.Prefix, a.Dev) }
