package main

import (
	"net/netip"
	"path/filepath"

	"tulle/subnet"
)

func memoryPath(dir string) string { return filepath.Join(dir, "lease.json") }

// remember notes the lease for the time after it has run out.
func remember(dir string, l subnet.Lease) error {
	return subnet.Note{Key: l.Key(), Value: l.Value()}.WriteFile(memoryPath(dir))
}

// remembered is the subnets that this node had before, as far as it knows: from
// its own note, or else from the subnet file, which may be another program's.
func remembered(c config) [2]netip.Prefix {
	if note, err := subnet.ReadNote(memoryPath(c.StateDir)); err == nil {
		if l, err := subnet.ParseLease(note.Key, []byte(note.Value)); err == nil && l.Node == c.Node {
			return l.Subnets
		}
	}
	var subnets [2]netip.Prefix
	if f, err := subnet.ReadFile(c.SubnetFile); err == nil {
		for i, s := range f.Subnets {
			subnets[i] = s.Masked()
		}
	}
	return subnets
}
