package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// Marks are addresses whose last holder had a MAC that did not follow from its
// address: what the neighbours know is wrong for the next holder, who announces
// itself, and takes the mark off. All are in one file, a line each, the newest last;
// the file goes with the last of them. It is written with the lock held. What a crash
// cuts off costs the next holder the seconds until a stale neighbour is asked again.

// marksKept is how many there may be. It is how many neighbours a kernel keeps
// (gc_thresh3), and keeps the file small where addresses never come again, as in an
// IPv6 subnet.
const marksKept = 1024

// marks are the marked addresses. Lines that are none are left out.
func (d *directory) marks() ([]netip.Addr, error) {
	text, err := d.read(marksName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which addresses to announce: %w", err)
	}
	var marks []netip.Addr
	for line := range strings.Lines(text) {
		if a, err := netip.ParseAddr(strings.TrimSuffix(line, "\n")); err == nil && a.Zone() == "" {
			marks = append(marks, a)
		}
	}
	return marks, nil
}

func (d *directory) setMarks(marks []netip.Addr) error {
	if len(marks) == 0 {
		return d.remove(marksName)
	}
	var text strings.Builder
	for _, a := range marks[max(0, len(marks)-marksKept):] {
		fmt.Fprintln(&text, a)
	}
	return d.write(marksName, text.String())
}

// mark makes the next holder of the address announce it.
func (d *directory) mark(addr netip.Addr) error {
	marks, err := d.marks()
	if err != nil {
		return err
	}
	marks = slices.DeleteFunc(marks, func(a netip.Addr) bool { return a == addr })
	return d.setMarks(append(marks, addr))
}

// recall makes an address announced that has a mark.
func (d *directory) recall(a *address) error {
	marks, err := d.marks()
	a.Announce = a.Announce || slices.Contains(marks, a.Prefix.Addr())
	return err
}

// announced takes the marks off addresses that all neighbours know again with the MAC
// that follows from them.
func (i *ipam) announced(addrs []address, ownMAC bool) error {
	if ownMAC || !slices.ContainsFunc(addrs, func(a address) bool { return a.Announce }) {
		return nil
	}
	return i.locked(func() error {
		marks, err := i.marks()
		if err != nil {
			return err
		}
		kept := slices.DeleteFunc(slices.Clone(marks), func(m netip.Addr) bool {
			return slices.ContainsFunc(addrs, func(a address) bool { return a.Announce && a.Prefix.Addr() == m })
		})
		if len(kept) == len(marks) {
			return nil
		}
		return i.setMarks(kept)
	})
}

// part releases a reservation, and marks its address when another plugin made it. A mark
// that cannot be made costs the next holder some seconds, and no pod stays because of it:
// on a disk that is full, pods must go.
func (i *ipam) part(r reservation, l listing) error {
	if !l.known[r.addr] {
		_ = i.mark(r.addr)
	}
	return i.directory.release(r)
}
