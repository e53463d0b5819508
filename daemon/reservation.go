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
)

// reservationDir has a folder for each CNI network, in the way of host-local,
// where the plugin notes which addresses are given out.
const reservationDir = "/var/lib/cni/networks"

// reservations removes the folders in which every address is of this node's
// subnets. It is for a node without pods.
func (b *broom) reservations() error {
	folders, err := os.ReadDir(reservationDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list reserved addresses: %w", err)
	}
	for _, folder := range folders {
		path := filepath.Join(reservationDir, folder.Name())
		if ours, err := b.reservesOurs(path); err != nil || !ours {
			if err != nil {
				return err
			}
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		b.tell("delete folder %s", path)
	}
	return nil
}

// reservesOurs reports whether a folder has files of reservations and nothing
// else, and these tell of addresses of this node's subnets and of no others.
func (b *broom) reservesOurs(path string) (bool, error) {
	files, err := os.ReadDir(path)
	if err != nil {
		return false, nil // no folder
	}
	told := 0
	for _, file := range files {
		addrs, err := reserved(path, file.Name())
		if err != nil {
			return false, fmt.Errorf("read reserved address: %w", err)
		}
		for _, addr := range addrs {
			a, err := netip.ParseAddr(addr)
			if err != nil || !slices.ContainsFunc(b.subnets, func(s netip.Prefix) bool { return s.Contains(a) }) {
				return false, nil
			}
			told++
		}
	}
	return told > 0, nil
}

// reserved is the addresses that a file of a folder tells of, if it is one of those that
// cni-shim/directory.go describes.
func reserved(folder, name string) ([]string, error) {
	switch {
	case name == "lock":
		return nil, nil
	case name == "announce", strings.HasPrefix(name, "last_reserved_ip."):
		text, err := os.ReadFile(filepath.Join(folder, name))
		return strings.Fields(string(text)), err
	}
	if _, addr, ok := strings.Cut(name, "_"); ok { // the second name of a reservation
		name = addr
	}
	return []string{name}, nil
}
