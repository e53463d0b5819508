package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// status says whether an ADD could succeed now. Like ADD it counts addresses as free whose
// pods are gone; otherwise a node that is full of them would never see the ADD that frees them.
func status(args *skel.CmdArgs) error {
	conf, err := parseNetconf(args.StdinData)
	if err != nil {
		return err
	}
	file, err := readSubnetFile(conf.SubnetFile, types.ErrPluginNotAvailable)
	if err != nil {
		return err
	}
	all, err := spans(conf, file)
	if err == nil {
		err = checkMTU(conf, file)
	}
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return coded(types.ErrPluginNotAvailable, fmt.Errorf("open netlink: %w", err))
	}
	defer h.Close()
	if err := errors.Join(wantBridge(conf, file).possible(h), writable(conf.reservationDir())); err != nil {
		return coded(types.ErrPluginNotAvailable, err)
	}
	store, err := openExistingIPAM(conf)
	if err != nil {
		return coded(types.ErrPluginNotAvailable, err)
	}
	if store == nil {
		return nil
	}
	defer store.close()
	l, err := store.list()
	if err != nil {
		return coded(types.ErrPluginNotAvailable, err)
	}
	for _, s := range all {
		u := s.usage(l.taken)
		if !s.Bridge.IsValid() || !u.full() {
			continue
		}
		gone, err := store.gone(s.contains, func(all []reservation) ([]reservation, error) { return store.stale(h, all) })
		if err != nil {
			return coded(types.ErrPluginNotAvailable, err)
		}
		if len(gone) == 0 {
			return u.err(types.ErrPluginNotAvailable, conf.Name, store.path)
		}
	}
	return nil
}

// writable tells why nothing can be written into a directory, or into the one in which it
// will be made.
func writable(dir string) error {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(dir, &s)
		if errors.Is(err, unix.ENOENT) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		break
	}
	switch {
	case s.Flags&unix.ST_RDONLY != 0:
		return fmt.Errorf("reservations cannot be written: the file system of %s is read-only", dir)
	case s.Blocks > 0 && s.Bfree == 0, s.Files > 0 && s.Ffree == 0:
		return fmt.Errorf("reservations cannot be written: the file system of %s is full", dir)
	}
	return nil
}
