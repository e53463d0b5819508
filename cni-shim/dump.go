package main

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dump reads a table of the kernel. The kernel says when the table changed while
// it was read, which is usual while many pods start at once: what came is then
// not to be trusted, and is asked for again.
func dump[T any](read func() (T, error)) (T, error) {
	const tries = 20
	for i := 1; ; i++ {
		v, err := read()
		if i == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
}

func addrsOf(h *netlink.Handle, l netlink.Link) ([]netlink.Addr, error) {
	return dump(func() ([]netlink.Addr, error) { return h.AddrList(l, netlink.FAMILY_ALL) })
}
