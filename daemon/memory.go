package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"tulle/subnet"
)

// memoryPath is the state file's.
func memoryPath(c config) string { return filepath.Join(c.StateDir, "state.json") }

// Between two writings of the state file. A crash in between forgets at most
// what came in that time, which etcd tells again.
const memoryPeriod = 10 * time.Second

// recall reads the state file. The error says why nothing in it can be used.
func recall(c config, now time.Time) (subnet.Memory, error) {
	m, err := subnet.ReadMemory(memoryPath(c))
	switch {
	case err != nil:
		return m, err
	case m.Prefix != c.Etcd.Prefix:
		return m, fmt.Errorf("it is of the network at %s", m.Prefix)
	case m.Self.Node != c.Node:
		return m, fmt.Errorf("it is of a node called %s", m.Self.Node)
	case m.Lost:
		return m, errors.New("another node has the lease")
	case !m.Valid(now):
		return m, fmt.Errorf("the lease ran out at %s", m.Alive.Add(m.TTL).Format(time.RFC3339))
	}
	return m, nil
}

// past is what a node was before, as far as it knows.
type past struct {
	subnets [2]netip.Prefix
	addrs   [2]netip.Addr // they stay as long as the device has them
	// advertised are the devices that followed router advertisements. A device
	// made anew on a host that forwards would not.
	advertised []string
}

// remembered is the past, even if the lease has run out since: from the state
// file, or else from the subnet file, which may be another program's.
func remembered(c config) past {
	m, err := subnet.ReadMemory(memoryPath(c))
	if err == nil && m.Prefix == c.Etcd.Prefix && m.Self.Node == c.Node {
		return past{subnets: m.Self.Subnets, addrs: m.Self.Addrs}
	}
	var p past
	if f, err := subnet.ReadFile(c.SubnetFile); err == nil {
		for i, s := range f.Subnets {
			if s.IsValid() {
				p.subnets[i] = s.Masked()
			}
		}
	}
	return p
}

// former is the prefixes of the network that this node was in when it last ran.
func former(c config) []netip.Prefix {
	m, err := subnet.ReadMemory(memoryPath(c))
	if err != nil || m.Prefix != c.Etcd.Prefix {
		return nil
	}
	return m.Network.Prefixes()
}

// memorize writes the state file whenever there is something new, and a last
// time when ctx ends.
func (d *daemon) memorize(ctx context.Context) error {
	wait := time.Duration(0) // the first time soon, for a host that is new
	var last subnet.Memory
	for {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		m, ok := d.memory()
		wait = memoryPeriod
		if !ok {
			wait = time.Second
		} else if m != last {
			err := m.WriteFile(memoryPath(d.config))
			d.mu.Lock()
			d.badMemory.set(faultOf(memoryPath(d.config), err))
			d.mu.Unlock()
			if err == nil {
				last = m
			} else {
				wait = time.Second
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// memory is what is to be remembered, once it is known from etcd.
func (d *daemon) memory() (subnet.Memory, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store == nil || d.snapshot.Leases.Len() == 0 {
		return subnet.Memory{}, false
	}
	self, ok := d.snapshot.Leases.Get(d.site.self.Key())
	if !ok {
		return subnet.Memory{}, false
	}
	alive, ttl := d.store.Alive()
	if ttl == 0 {
		alive = time.Time{} // for ever
	}
	return subnet.Memory{
		Prefix: d.config.Etcd.Prefix, Self: self, Alive: alive.Round(0), TTL: ttl,
		Network: d.site.network, Leases: d.snapshot.Leases,
	}, true
}

// disown notes in the state file that another node has the lease, so that a start
// without etcd does not take it for ours.
func disown(c config) error {
	m, err := subnet.ReadMemory(memoryPath(c))
	if err != nil || m.Prefix != c.Etcd.Prefix || m.Self.Node != c.Node {
		return nil // nothing to go on from
	}
	m.Lost = true
	if err := m.WriteFile(memoryPath(c)); err != nil {
		return errors.Join(err, os.Remove(memoryPath(c)))
	}
	return nil
}

// another returns an error if this host is not the one that held a lease: it has
// other addresses, and somebody answers at those. It may be a clone, with all files.
func another(held, here subnet.Lease) error {
	if held.SharesAddr(here) {
		return nil
	}
	for _, a := range held.Addrs {
		if a.IsValid() && answers(a) {
			return fmt.Errorf("it is of a host at %s, which answers there", a)
		}
	}
	return nil
}

// bootPatience is how long etcd may take at a start before the node goes on
// from its state file.
const bootPatience = 400 * time.Millisecond

// fromMemory takes part in the network as the state file says, if etcd does not
// answer in time.
func (d *daemon) fromMemory(ctx context.Context) error {
	m, err := recall(d.config, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		d.log.Info("the state file is of no use; waiting for etcd", zap.Error(err))
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.begun:
		return nil
	case <-time.After(bootPatience):
	}
	s, candidates, err := survey(d.config, &d.names, m.Network, past{addrs: m.Self.Addrs})
	if err != nil {
		return err
	}
	s.self = m.Self.Lease
	if err := another(m.Self.Lease, s.lease(d.config)); err != nil {
		d.log.Info("the state file is of no use; waiting for etcd", zap.Error(err))
		return nil
	}
	d.log.Warn("etcd does not answer; going on from the state file", zap.Stringer("subnet", s.self), zap.Int("leases", m.Leases.Len()), zap.Time("alive", m.Alive))
	return d.begin(s, candidates, subnet.Snapshot{Network: m.Network, Leases: m.Leases})
}
