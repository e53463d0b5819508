package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"

	"tulle/subnet"
)

// ipam shares out the node's subnets among its pods. Its files are host-local's:
// one per address, named for it, that tells who holds it.
//
// ADD reserves before it makes a veth and DEL deletes the veth before it releases.
// So whatever is interrupted where, a veth has a reservation that leads to it.
type ipam struct {
	network string
	dir     string
	store   *disk.Store
}

// reservationDir is where the reservations of the network are.
func (c netconf) reservationDir() string { return filepath.Join(c.DataDir, c.Name) }

// openIPAM opens the network's reservations, and makes their directory.
func openIPAM(c netconf) (*ipam, error) {
	store, err := disk.New(c.Name, c.DataDir)
	if err != nil {
		return nil, coded(types.ErrIOFailure, fmt.Errorf("open reservations in %s: %w", c.reservationDir(), err))
	}
	return &ipam{c.Name, c.reservationDir(), store}, nil
}

// openExistingIPAM returns nil when the network has no directory: nothing is
// reserved, and what only takes away should not make one.
func openExistingIPAM(c netconf) (*ipam, error) {
	if _, err := os.Stat(c.reservationDir()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return openIPAM(c)
}

func (i *ipam) close() {
	// Nothing is written through the lock file that a late error could concern.
	_ = i.store.Close()
}

// reserve takes one address in each family of the subnet file. The caller knows
// that the pod has no such interface: reservations that exist already are those
// of an attempt that died, and are given back first. When it fails nothing is
// reserved.
func (i *ipam) reserve(a attachment, f subnet.File) ([]address, error) {
	got, err := i.take(a, f)
	if err == nil {
		return got, nil
	}
	stale := errors.Is(err, errHeld)
	if undo := i.release(a); undo != nil {
		return nil, then(err, undo)
	}
	if !stale {
		return nil, err
	}
	if got, err = i.take(a, f); err != nil {
		return nil, then(err, i.release(a))
	}
	return got, nil
}

// errHeld says that the attachment holds an address already.
var errHeld = errors.New("attachment holds an address already")

func (i *ipam) take(a attachment, f subnet.File) ([]address, error) {
	var got []address
	for family, s := range f.Subnets {
		if !s.IsValid() {
			continue
		}
		set := allocator.RangeSet{{Subnet: types.IPNet(*ipNet(s.Masked())), Gateway: s.Addr().AsSlice()}}
		if err := set.Canonicalize(); err != nil {
			return nil, fmt.Errorf("share out subnet %s: %w", s.Masked(), err)
		}
		ip, err := allocator.NewIPAllocator(&set, i.store, family).Get(a.ContainerID, a.IfName, nil)
		if err != nil {
			return nil, i.explain(err, a, s)
		}
		got = append(got, address{prefixOf(&ip.Address), s.Addr()})
	}
	return got, nil
}

// explain finds out why the allocator, whose errors have no classes, refused.
func (i *ipam) explain(cause error, a attachment, s netip.Prefix) error {
	held, err := i.held(a)
	if err != nil {
		return errors.Join(cause, err)
	}
	for _, addr := range held {
		if s.Contains(addr) {
			return errHeld
		}
	}
	u, err := usageOf(i.dir, s)
	if err != nil {
		return errors.Join(cause, err)
	}
	if u.full() {
		return coded(types.ErrTryAgainLater, u.err(i.network))
	}
	return fmt.Errorf("reserve an address of %s in %s: %w", s.Masked(), i.dir, cause)
}

// release gives back all addresses of the attachment; it may hold none.
func (i *ipam) release(a attachment) error {
	return i.locked(func() error {
		if err := i.store.ReleaseByID(a.ContainerID, a.IfName); err != nil {
			return fmt.Errorf("release addresses of %s in %s: %w", a.ContainerID, i.dir, err)
		}
		return nil
	})
}

// locked runs f while no other process reserves or releases.
func (i *ipam) locked(f func() error) error {
	if err := i.store.Lock(); err != nil {
		return fmt.Errorf("lock reservations in %s: %w", i.dir, err)
	}
	return errors.Join(f(), i.store.Unlock())
}

// sweep removes reservations that name nobody: whoever made them died, or found
// the disk full, before the name was written. It returns all others.
func (i *ipam) sweep() ([]reservation, error) {
	var named []reservation
	err := i.locked(func() error {
		all, err := reservations(i.dir)
		for _, r := range all {
			if r.holder.ContainerID != "" {
				named = append(named, r)
			} else if gone := os.Remove(filepath.Join(i.dir, r.addr.String())); gone != nil {
				err = errors.Join(err, fmt.Errorf("remove reservation: %w", gone))
			}
		}
		return err
	})
	return named, err
}

// held are the addresses that are reserved for the attachment.
func (i *ipam) held(a attachment) ([]netip.Addr, error) {
	all, err := reservations(i.dir)
	if err != nil {
		return nil, err
	}
	var held []netip.Addr
	for _, r := range all {
		if r.holder == a || r.holder == (attachment{ContainerID: a.ContainerID}) {
			held = append(held, r.addr)
		}
	}
	return held, nil
}
