package main

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// lookTime is how long the look-up of all names of one survey may take: whoever
// waits for it can't follow this host meanwhile.
const lookTime = time.Second

// names remembers the addresses of names, for when nobody can tell them any more.
// The zero names knows none.
type names struct {
	mu sync.Mutex // guards all following fields

	known map[string]netip.Addr
}

// addr is that of a host, which may be an address itself. It is not valid if it has
// none, or none is known.
func (n *names) addr(ctx context.Context, host string) netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil && len(found) > 0 {
		if n.known == nil {
			n.known = map[string]netip.Addr{}
		}
		n.known[host] = found[0].Unmap()
	}
	return n.known[host]
}
