package main

import (
	"context"
	"maps"
	"slices"

	"tulle/backend"
	"tulle/internal/status"
	"tulle/internal/version"
	"tulle/subnet"
)

// state is all that this process knows of its node, and what the kernel holds
// at this moment.
func (d *daemon) state(ctx context.Context) status.Node {
	d.mu.Lock()
	here, rec, snapshot, store := d.site, d.rec, d.snapshot, d.config.Etcd
	s := status.Node{
		Name: d.config.Node, Version: version.String(), Started: d.born, Ready: d.ready, Phase: d.doing,
		Etcd: status.Etcd{
			Endpoints: store.Endpoints, Prefix: store.Prefix, Connected: d.connected, Revision: snapshot.Rev,
			CAFile: store.CAFile, CertFile: store.CertFile, KeyFile: store.KeyFile, Username: store.Username, PasswordFile: store.PasswordFile,
		},
		Peers: []status.Peer{}, BadKeys: texts(snapshot.Faults), LastPass: d.lastPass, Troubles: d.troubles(),
	}
	if rec == nil {
		d.mu.Unlock()
		return s
	}
	leftOut := texts(d.plan.Faults())
	awaited := maps.Clone(d.plan.Awaited())
	candidates := slices.Clone(d.candidates)
	rows := map[string][]backend.Entry{} // by lease key
	for r := range snapshot.Leases.All() {
		rows[r.Key()] = d.plan.Rows(r.Lease)
	}
	d.mu.Unlock()
	s.Network = string(here.network.JSON())
	s.Underlay = &status.Underlay{Dev: here.underlay.Dev, Address: here.underlay.Addr().String(), MTU: here.underlay.MTU, Why: here.why}
	for _, c := range candidates {
		if c.Dev != here.underlay.Dev {
			s.Underlay.Others = append(s.Underlay.Others, c.String())
		}
	}
	self := statusLease(here.self, here.underlay.Family)
	s.Lease, s.Device, s.MTU = &self, here.backend().Device(), here.backend().MTU(here.underlay)
	want, have, err := rec.Look(ctx)
	if err != nil {
		s.KernelErr = err.Error()
	} else {
		for _, c := range backend.Diff(want, have) {
			s.Difference = append(s.Difference, c.String())
		}
	}
	s.Want, s.Have = lines(want), lines(have)
	for r := range snapshot.Leases.All() {
		if r.Lease == here.self {
			continue
		}
		p := status.Peer{Lease: statusLease(r.Lease, here.underlay.Family), LeftOut: leftOut[r.Key()], Awaited: awaited[r.Key()], Reach: d.reachability.reach(r.Key())}
		for _, row := range rows[r.Key()] {
			if f, ok := row.(backend.FDB); ok {
				p.VTEP = &status.VTEP{Address: f.Dst.String(), MAC: f.MAC.String()}
			}
		}
		if p.LeftOut == "" && !p.Awaited && err == nil {
			for _, row := range rows[r.Key()] {
				if have[row.Key()] != row {
					p.Missing = append(p.Missing, row.String())
				}
			}
			p.Programmed = len(p.Missing) == 0
		}
		s.Peers = append(s.Peers, p)
	}
	return s
}

// troubles lists the faults that last, but for those of peers and keys, which
// are told with these, and of the last pass. The caller holds d.mu.
func (d *daemon) troubles() []string {
	var list []string
	for _, t := range []trouble{d.badNetwork, d.badUnderlay, d.badChoice, d.badFile, d.badMemory} {
		for _, what := range slices.Sorted(maps.Keys(t.now)) {
			list = append(list, t.begin+": "+what+": "+t.now[what])
		}
	}
	return list
}

// statusLease is a lease with the address that packets between nodes go to, if it
// has one of the family that they travel in.
func statusLease(l subnet.Lease, over subnet.Family) status.Lease {
	a := l.Addrs[over]
	if !a.IsValid() {
		a = l.Addrs[1-over]
	}
	s := status.Lease{Node: l.Node, Backend: l.Type, Address: a.String()}
	if b := l.Addrs[1-subnet.FamilyOf(a)]; a.IsValid() && b.IsValid() {
		for _, a := range l.Addrs {
			s.Addresses = append(s.Addresses, a.String())
		}
	}
	for _, p := range l.Subnets {
		if p.IsValid() {
			s.Subnets = append(s.Subnets, p.String())
		}
	}
	return s
}

func lines(s backend.State) []string {
	rows := make([]string, 0, len(s))
	for _, e := range s.Sorted() {
		rows = append(rows, e.String())
	}
	return rows
}
