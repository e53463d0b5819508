package main

import "net/netip"

// mark makes the next holder of the address announce it: what the neighbours learn
// now is wrong for a pod whose MAC follows from the address.
func (d *directory) mark(addr netip.Addr) error { return d.write(markPrefix+addr.String(), "") }

// announced takes the marks off addresses that all neighbours know again with the MAC
// that follows from them.
func (i *ipam) announced(addrs []address, ownMAC bool) error {
	for _, a := range addrs {
		if !a.Announce || ownMAC {
			continue
		}
		if err := i.remove(markPrefix + a.Prefix.Addr().String()); err != nil {
			return err
		}
	}
	return nil
}

// part releases a reservation, and marks its address when another plugin made it.
func (i *ipam) part(r reservation, l listing) error {
	if !l.known[r.addr] {
		if err := i.mark(r.addr); err != nil {
			return err
		}
	}
	return i.directory.release(r)
}
