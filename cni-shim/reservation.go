package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

// reservation is one file of host-local's store.
type reservation struct {
	addr netip.Addr
	// holder has no IfName where an old version of host-local wrote the file.
	holder attachment
}

// reservations are those in dir, and none where dir does not exist.
func reservations(dir string) ([]reservation, error) {
	addrs, err := reservedAddrs(dir)
	if err != nil {
		return nil, err
	}
	var all []reservation
	for _, a := range addrs {
		text, err := os.ReadFile(filepath.Join(dir, a.String()))
		if errors.Is(err, fs.ErrNotExist) { // released at this moment
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read reservation: %w", err)
		}
		id, ifName, _ := strings.Cut(strings.TrimSpace(string(text)), disk.LineBreak)
		all = append(all, reservation{a, attachment{id, ifName}})
	}
	return all, nil
}

func reservedAddrs(dir string) ([]netip.Addr, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list reservations: %w", err)
	}
	var addrs []netip.Addr
	for _, e := range entries {
		// The other files here are the lock and the last reserved address.
		if a, err := netip.ParseAddr(e.Name()); err == nil && e.Type().IsRegular() {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// usage is how much of a subnet is reserved.
type usage struct {
	subnet     netip.Prefix
	dir        string
	used, size uint64
}

// usageOf counts the reservations in dir that lie in the subnet, which is given
// by the bridge's address in it.
func usageOf(dir string, bridge netip.Prefix) (usage, error) {
	u := usage{subnet: bridge.Masked(), dir: dir, size: podAddrs(bridge)}
	addrs, err := reservedAddrs(dir)
	if err != nil {
		return u, err
	}
	for _, a := range addrs {
		if bridge.Contains(a) && a != bridge.Addr() {
			u.used++
		}
	}
	return u, nil
}

// podAddrs is the number of addresses of a subnet that pods can have: all but the
// first, the bridge's, and the broadcast address that IPv4 alone knows.
func podAddrs(s netip.Prefix) uint64 {
	host := s.Addr().BitLen() - s.Bits()
	without := uint64(2)
	if s.Addr().Is4() {
		without = 3
	}
	if host >= 64 {
		return math.MaxUint64
	}
	return max(1<<host, without) - without
}

func (u usage) full() bool { return u.used >= u.size }

func (u usage) err(network string) error {
	return fmt.Errorf("no free address in %s: %d of %d are reserved by the pods of network %s on this node (%s); "+
		"move pods to other nodes, or give the nodes larger subnets (SubnetLen)", u.subnet, u.used, u.size, network, u.dir)
}
