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
		name := file.Name()
		addr := name
		switch {
		case name == "lock":
			continue
		case strings.HasPrefix(name, "last_reserved_ip."):
			text, err := os.ReadFile(filepath.Join(path, name))
			if err != nil {
				return false, fmt.Errorf("read reserved address: %w", err)
			}
			addr = strings.TrimSpace(string(text))
		default:
			if _, after, ok := strings.Cut(name, "_"); ok { // the second name of a reservation
				addr = after
			}
		}
		a, err := netip.ParseAddr(addr)
		if err != nil || !slices.ContainsFunc(b.subnets, func(s netip.Prefix) bool { return s.Contains(a) }) {
			return false, nil
		}
		told++
	}
	return told > 0, nil
}
