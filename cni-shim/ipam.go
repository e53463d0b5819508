package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// ipam shares out the node's subnets among its pods.
//
// ADD reserves before it makes a veth and DEL deletes the veth before it releases.
// So whatever is interrupted where, a veth has a reservation that leads to it.
type ipam struct {
	*directory
	network string
}

// reservationDir is where the reservations of the network are.
func (c netconf) reservationDir() string { return filepath.Join(c.DataDir, c.Name) }

// openIPAM opens the network's reservations, and makes their directory.
func openIPAM(c netconf) (*ipam, error) {
	i, err := openExistingIPAM(c)
	if i != nil || err != nil {
		return i, err
	}
	if err := os.MkdirAll(c.reservationDir(), 0o755); err != nil {
		return nil, coded(types.ErrIOFailure, fmt.Errorf("make directory for reservations: %w", err))
	}
	return openExistingIPAM(c)
}

// openExistingIPAM returns nil when the network has no directory: nothing is
// reserved, and what only takes away should not make one.
func openExistingIPAM(c netconf) (*ipam, error) {
	d, err := openDirectory(c.reservationDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, coded(types.ErrIOFailure, fmt.Errorf("open reservations: %w", err))
	}
	return &ipam{d, c.Name}, nil
}

// request is what an ADD wants of each family.
type request struct {
	spans [2]span
	// static is the address that the runtime asks for; the zero Addr: any.
	static [2]netip.Addr
	// ownMAC says that the pod's MAC does not follow from its address.
	ownMAC bool
	// stale finds out which of the reservations belong to nobody that lives. It is
	// asked when the range is full.
	stale func([]reservation) ([]reservation, error)
	// farewell takes away what else leads to the addresses of reservations that
	// are about to be given back, because their holders are gone.
	farewell func([]reservation) error
}

// reserve takes one address in each family of the request. The caller knows that
// the pod has no such interface: reservations that exist already are those of an
// attempt that died, and are given back first. When it fails nothing is reserved.
//
// The directory is listed before it is locked: others wait only for what is written.
// What they take meanwhile is found taken; what they give back is seen when nothing
// else is free.
func (i *ipam) reserve(a attachment, want request) ([]address, error) {
	l, err := i.list()
	if err != nil {
		return nil, err
	}
	var got []address
	err = i.locked(func() error {
		leftovers, err := i.of(a, l)
		if err != nil {
			return err
		}
		// A file without an interface may be that of the container's other one.
		leftovers = slices.DeleteFunc(leftovers, func(r reservation) bool { return r.holder != a })
		if err := i.giveBack(leftovers, l, want); err != nil {
			return err
		}
		for family, s := range want.spans {
			if !s.Bridge.IsValid() {
				continue
			}
			addr, err := i.takeOne(a, &l, family, want)
			if err == nil {
				got = append(got, address{
					Prefix:  netip.PrefixFrom(addr, s.Bridge.Bits()),
					Gateway: s.Bridge.Addr(),
					// The MAC follows from the first address.
					Announce: want.ownMAC || len(got) > 0 || l.strangers(),
				})
				err = i.recall(&got[len(got)-1])
			}
			if err != nil {
				for _, g := range got {
					err = then(err, i.directory.release(reservation{g.Prefix.Addr(), a}))
				}
				got = nil
				return err
			}
		}
		return nil
	})
	return got, err
}

// takeOne reserves the address of one family.
func (i *ipam) takeOne(a attachment, l *listing, family int, want request) (netip.Addr, error) {
	s := want.spans[family]
	if addr := want.static[family]; addr.IsValid() {
		return addr, i.takeStatic(a, addr, *l, want)
	}
	lastName := fmt.Sprint(lastNamePrefix, family)
	text, err := i.read(lastName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return netip.Addr{}, fmt.Errorf("read the last reserved address: %w", err)
	}
	last, _ := netip.ParseAddr(strings.TrimSpace(text)) // cut short by a crash: from the beginning
	for again, reclaimed := false, false; ; {
		addr := s.next(last, l.taken)
		switch {
		case addr.IsValid():
			if ok, err := i.take(a, addr, want.ownMAC); err != nil {
				return addr, err
			} else if ok {
				return addr, i.write(lastName, addr.String())
			}
			l.taken[addr] = true // a directory, or something else that is no reservation
		case !again:
			if *l, err = i.list(); err != nil {
				return addr, err
			}
			again = true
		case !reclaimed:
			if err := i.reclaim(s, *l, want); err != nil {
				return addr, err
			}
			reclaimed = true
		default:
			return addr, s.usage(l.taken).err(types.ErrTryAgainLater, i.network, i.path)
		}
	}
}

// takeStatic reserves the address that the runtime asks for. That of a pod that is gone is
// free for it: the pod may be the same one, come back after a crash of the node.
func (i *ipam) takeStatic(a attachment, addr netip.Addr, l listing, want request) error {
	ok, err := i.take(a, addr, want.ownMAC)
	if ok || err != nil {
		return err
	}
	gone, err := i.gone(func(other netip.Addr) bool { return other == addr }, want.stale)
	if err == nil {
		err = i.giveBack(gone, l, want)
	}
	if err != nil {
		return fmt.Errorf("find out whether %s is reserved for a pod that is gone: %w", addr, err)
	}
	if ok, err = i.take(a, addr, want.ownMAC); ok || err != nil {
		return err
	}
	r, err := i.load(addr)
	if err != nil {
		return err
	}
	if r.holder.ContainerID == "" {
		return coded(types.ErrTryAgainLater, fmt.Errorf("the requested address %s is kept by a file in %s that names nobody", addr, i.path))
	}
	return coded(types.ErrTryAgainLater, fmt.Errorf(
		"the requested address %s is reserved for %s of container %s", addr, r.holder.IfName, r.holder.ContainerID))
}

// reclaim frees the reservations of a full span whose pods are gone.
func (i *ipam) reclaim(s span, l listing, want request) error {
	gone, err := i.gone(s.contains, want.stale)
	if err != nil {
		return fmt.Errorf("find out which addresses of %s are reserved for pods that are gone: %w", s.Bridge.Masked(), err)
	}
	return i.giveBack(gone, l, want)
}

// gone are the reservations of the addresses whose pods are gone.
func (i *ipam) gone(of func(netip.Addr) bool, stale func([]reservation) ([]reservation, error)) ([]reservation, error) {
	all, err := i.all()
	if err != nil {
		return nil, err
	}
	return stale(slices.DeleteFunc(all, func(r reservation) bool { return !of(r.addr) || i.inTheMaking(r.addr) }))
}

// giveBack frees reservations of holders that are gone.
func (i *ipam) giveBack(gone []reservation, l listing, want request) error {
	if len(gone) == 0 {
		return nil
	}
	if err := want.farewell(gone); err != nil {
		return err
	}
	for _, r := range gone {
		if err := i.part(r, l); err != nil {
			return err
		}
		delete(l.taken, r.addr)
	}
	return nil
}
