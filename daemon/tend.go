package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"tulle/backend"
	"tulle/subnet"
)

// Times of tend: how long it gathers what it hears, how often it looks at the
// subnet file, without which no pod starts, and at the choice of the underlay, and
// for how long after etcd lost its leases the peers stay that it has not told of
// again.
const (
	tendGather = 100 * time.Millisecond
	tendFile   = 2 * time.Second
	grace      = 2 * time.Minute
)

// tend follows what happens to this host and to the network's configuration,
// until ctx ends.
func (d *daemon) tend(ctx context.Context) error {
	file := time.NewTicker(tendFile)
	defer file.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-file.C:
			d.mu.Lock()
			if d.written {
				d.publish()
			}
			d.doubt()
			d.mu.Unlock()
			continue
		case <-d.ask:
			continue
		case <-d.moved:
		case <-d.graceOver:
			d.forget()
			continue
		}
		select { // what comes together is looked at once
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tendGather):
		}
		select {
		case <-d.moved:
		default:
		}
		if err := d.survey(); err != nil {
			return err
		}
	}
}

// survey looks at the host again and settles on what it finds. As long as
// nothing can be found, all stays as it is. The error says what takes another start.
func (d *daemon) survey() error {
	d.mu.Lock()
	network, fault := d.site.network, error(nil)
	switch s := d.snapshot; {
	case s.NetworkErr != nil:
		fault = s.NetworkErr
	case s.Rev == 0 || s.Network == d.site.network:
	case d.site.follows(s.Network):
		if fault = d.claims.serve(site{network: s.Network}); fault == nil {
			network = s.Network
		}
	default:
		fault = fmt.Errorf("this node's subnet %s does not fit in it, or its families are others; restart tulled to take another, or one more", d.site.self)
	}
	d.badNetwork.set(faultOf("config", fault))
	before := past{addrs: d.site.underlay.Addrs, advertised: d.site.advertised}
	d.mu.Unlock()

	found, candidates, err := survey(d.config, &d.names, network, before)

	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && !slices.Equal(d.jumpsOf(found), d.jumps) {
		over := found.underlay.Family
		if network.Underlay()[0] != d.site.network.Underlay()[0] {
			return fmt.Errorf("packets between nodes travel over %s from now on, which this run has not opened the host's firewalls for; start tulled again", over)
		}
		// It may be a moment in which somebody changes an address.
		err = fmt.Errorf("%s has addresses of %s alone by now; restart tulled if that is to stay", found.underlay.Dev, over)
	}
	d.badUnderlay.set(faultOf("underlay", err))
	if err != nil {
		_ = d.claims.serve(d.site) // and not what was about to come
		return nil
	}
	d.candidates, d.doubted = candidates, subnet.Leases{}
	found.self = d.site.self
	if found.same(d.site) {
		return nil
	}
	moved := found.underlay.Addrs != d.site.underlay.Addrs
	if !found.underlay.Equal(d.site.underlay) {
		d.log.Info("underlay changed", zap.String("dev", found.underlay.Dev), zap.Stringer("address", found.underlay.Addr()),
			zap.Int("mtu", found.underlay.MTU), zap.String("why", found.why))
	}
	if found.network != d.site.network {
		d.log.Info("network configuration changed", zap.ByteString("network", found.network.JSON()))
	}
	d.settle(found)
	if moved && d.client != nil {
		d.client.Reconnect()
	}
	if d.store != nil {
		d.store.Renew()
	}
	return nil
}

// doubt holds the choice of the underlay against what the other nodes say, when
// one of both has changed. The caller holds d.mu.
func (d *daemon) doubt() {
	if d.leases == d.doubted {
		return
	}
	d.doubted = d.leases
	d.badChoice.set(backend.Doubts(d.site.underlay, d.candidates, d.site.self, d.leases.All()))
}

// settle makes the wanted state that of another site. The caller holds d.mu.
func (d *daemon) settle(s site) {
	d.site = s
	d.kernel.Own(s.network.Prefixes()...)
	d.plan = s.plan(d.config, d.host())
	d.rewrite()
	nudge(d.settled)
}

// faultOf is the set of one fault, or of none.
func faultOf(what string, err error) map[string]error {
	if err == nil {
		return nil
	}
	return map[string]error{what: err}
}

// merge is the leases of now, and those of before that are missing and whose
// nodes have not shown themselves again. It is for the time after etcd has lost
// its leases: the nodes put theirs back one after another, and until then they
// are still where they were.
func merge(before, now subnet.Leases) subnet.Leases {
	if before.Len() == 0 {
		return now // nearly always
	}
	nodes := map[string]bool{}
	addrs := map[netip.Addr]bool{}
	for r := range now.All() {
		nodes[r.Node] = true
		for _, a := range r.Addrs {
			if a.IsValid() {
				addrs[a] = true
			}
		}
	}
	merged := now
	for r := range before.All() {
		_, there := now.Get(r.Key())
		if there || r.Node != "" && nodes[r.Node] || addrs[r.Addrs[subnet.IPv4]] || addrs[r.Addrs[subnet.IPv6]] {
			continue
		}
		merged = merged.With(r)
	}
	return merged
}
