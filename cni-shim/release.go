package main

import (
	"net/netip"
)

// release gives back all addresses of the attachment; it may hold none. Before that
// farewell takes away what else leads to them.
//
// The directory is listed once, without its lock: nobody attaches this pod meanwhile, see
// exclude.
func (i *ipam) release(a attachment, farewell func(netip.Addr) error) error {
	l, err := i.list()
	if err != nil {
		return err
	}
	held, err := i.of(a, l)
	if err != nil {
		return err
	}
	for _, r := range held {
		if err := farewell(r.addr); err != nil {
			return err
		}
	}
	step("forgotten")
	return i.locked(func() error {
		for _, r := range held {
			now, err := i.load(r.addr)
			if err != nil {
				return err
			}
			if !now.heldBy(a) {
				continue
			}
			// The name under which the index knows it is that of a, which the
			// holder of an old file does not tell.
			if err := i.part(reservation{r.addr, a}, l); err != nil {
				return err
			}
		}
		for _, addr := range l.index[a.hostName()] { // to which no reservation was made
			if err := i.remove(a.indexName(addr)); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweep removes reservations that name nobody, because whoever made them died or
// found the disk full, and second names that lead to nothing or to another's. It
// returns all other reservations.
func (i *ipam) sweep() ([]reservation, error) {
	var named []reservation
	err := i.locked(func() error {
		all, err := i.all()
		if err != nil {
			return err
		}
		holders := map[netip.Addr]string{}
		for _, r := range all {
			if r.holder.ContainerID != "" {
				named = append(named, r)
				holders[r.addr] = r.holder.hostName()
			} else if err := i.removeUnnamed(r); err != nil {
				return err
			}
		}
		l, err := i.list()
		if err != nil {
			return err
		}
		for host, addrs := range l.index {
			for _, addr := range addrs {
				if holders[addr] == host {
					continue
				}
				if err := i.remove(host + indexBreak + addr.String()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return named, err
}

// removeUnnamed leaves what is no plain file, such as a directory that somebody
// put there to keep an address from being given out.
func (i *ipam) removeUnnamed(r reservation) error {
	if _, err := i.read(r.addr.String()); err != nil {
		return nil
	}
	return i.remove(r.addr.String())
}

// held are the addresses that are reserved for the attachment.
func (i *ipam) held(a attachment) ([]netip.Addr, error) {
	l, err := i.list()
	if err != nil {
		return nil, err
	}
	held, err := i.of(a, l)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, r := range held {
		addrs = append(addrs, r.addr)
	}
	return addrs, nil
}

// farewell removes the port mappings and the remembered UDP flows of pods that are
// gone, so that they do not lead to the next holder of the address.
func (c netconf) farewell(gone []reservation) error {
	f, err := openFirewall()
	if err != nil {
		return err
	}
	defer f.close()
	names := map[string]bool{}
	for _, r := range gone {
		names[r.holder.hostName()] = true
		if err := f.flushPod(r.addr); err != nil {
			return err
		}
	}
	return f.withdraw(c.Name, func(hostName string) bool { return names[hostName] })
}
