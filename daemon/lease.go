package main

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"tulle/backend"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// fromEtcd connects to etcd and takes the lease.
func (d *daemon) fromEtcd(ctx context.Context) (*etcd.Store, error) {
	d.phase("connecting to etcd")
	store, err := etcd.Open(ctx, d.config.Etcd, d.log)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.client = store
	d.mu.Unlock()
	d.phase("waiting for etcd and a network configuration")
	var seen []backend.Candidate
	var draft site
	lease, err := store.Acquire(ctx, d.config.TTL, func(network subnet.Network) (etcd.Claim, error) {
		if s, ok := d.current(); ok {
			return s.claim(d.config, s.self.Subnets), nil
		}
		// What is missing on this host ends the start before a lease is taken.
		var err error
		before := remembered(d.config)
		if draft, seen, err = survey(d.config, &d.names, network, before); err != nil {
			return etcd.Claim{}, err
		}
		if err := d.openKernel(draft); err != nil {
			return etcd.Claim{}, err
		}
		return draft.claim(d.config, before.subnets), nil
	})
	if errors.Is(err, etcd.ErrTaken) && len(seen) > 0 {
		err = fmt.Errorf("%w; %s was chosen because %s, of %s", err, draft.underlay.Dev, draft.why, backend.Names(seen))
	}
	if err != nil {
		return nil, err
	}
	d.log.Info("lease held", zap.Stringer("subnet", lease))
	d.mu.Lock()
	d.store = store
	d.mu.Unlock()
	if s, ok := d.current(); ok { // begun from the state file
		if s.self.Subnets != lease.Subnets {
			return nil, fmt.Errorf("the state file's subnet %s could not be had again, and etcd gave %s; restart tulled", s.self, lease)
		}
		d.renewed(lease)
		return store, nil
	}
	draft.self = lease
	return store, d.begin(draft, seen, subnet.Snapshot{})
}

// current is the site, and whether it has been begun.
func (d *daemon) current() (site, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.site, d.site.self != (subnet.Lease{})
}

// renewed hears what our lease is from now on. If the site has become another since
// the lease was claimed, the lease has to be written once more.
func (d *daemon) renewed(l subnet.Lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.site.self != l {
		s := d.site
		s.self = l
		d.settle(s)
	}
	now := d.site.lease(d.config)
	if now.Subnets = l.Subnets; now != l {
		d.store.Renew()
	}
}
