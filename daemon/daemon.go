package main

import (
	"errors"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"tulle/backend"
	"tulle/internal/status"
	"tulle/subnet"
)

// daemon is the running process: it hears of etcd, of the kernel and of whoever
// asks for its state.
type daemon struct {
	config  config
	log     *zap.Logger
	born    time.Time
	metrics *metrics

	mu sync.Mutex // guards all following fields

	doing     string // the phase, until ready
	ready     bool
	connected bool  // to etcd
	node      *node // nil until the lease is held
	plan      *backend.Plan
	rec       *backend.Reconciler
	snapshot  subnet.Snapshot
	leftOut   map[string]string // by lease key: why the peer is left out
	lastPass  *status.Pass
	badKeys   trouble
	badPeers  trouble
	badNet    trouble
	badPass   trouble
	badFile   trouble
}

func newDaemon(c config, log *zap.Logger) *daemon {
	return &daemon{
		config: c, log: log, born: time.Now(), metrics: newMetrics(),
		badKeys:  trouble{log: log, begin: "a key among the leases is none and is left out", end: "a key that was no lease is gone or right now", field: "key"},
		badPeers: trouble{log: log, begin: "a peer's lease makes no sense and is left out", end: "a peer's lease that was left out is gone or right now", field: "key"},
		badNet:   trouble{log: log, begin: "the network configuration is not followed", end: "the network configuration is ours again", field: "key"},
		badPass:  trouble{log: log, begin: "the kernel is not as wanted; trying again", end: "the kernel is as wanted again", field: "tables"},
		badFile:  trouble{log: log, begin: "the subnet file can't be written; new pods do not start; trying again", end: "the subnet file is written", field: "file"},
	}
}

// phase tells what the daemon does or waits for until it is ready.
func (d *daemon) phase(doing string) {
	d.mu.Lock()
	d.doing = doing
	d.mu.Unlock()
	notify("STATUS=" + doing)
}

// notify tells systemd, if it started us; if that fails there is nobody to tell.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// etcdUp hears whether there is a connection to etcd.
func (d *daemon) etcdUp(up bool) {
	d.mu.Lock()
	d.connected = up
	d.mu.Unlock()
	d.metrics.up(up)
}

// started is called once, when the lease is held.
func (d *daemon) started(n *node, rec *backend.Reconciler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.node, d.plan, d.rec = n, n.plan(), rec
}

// follow makes a snapshot's leases the wanted state. Where our own lease is not
// among them, etcd has lost its data or somebody deleted it: nothing is torn
// down, and what comes after our lease is back is followed again.
func (d *daemon) follow(s subnet.Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.badKeys.set(s.Faults)
	d.badNet.set(d.networkFault(s))
	if self, _ := s.Leases.Get(d.node.self.Key()); self.Lease != d.node.self {
		return
	}
	d.rec.Update(func(want backend.State) []backend.Change {
		changes := d.plan.Follow(want, s.Leases)
		d.metrics.wanted(changes)
		return changes
	})
	d.snapshot = s
	d.leftOut = texts(d.plan.Faults())
	d.badPeers.set(d.plan.Faults())
	d.metrics.snapshot(s, len(d.leftOut))
}

// networkFault says why the network configuration of a snapshot is not followed.
func (d *daemon) networkFault(s subnet.Snapshot) map[string]error {
	switch {
	case s.NetworkErr != nil:
		return map[string]error{"config": s.NetworkErr}
	case s.Network != d.node.network:
		return map[string]error{"config": errors.New("it was changed; restart tulled to follow it")}
	}
	return nil
}

// passed hears of every pass of the reconciler. The first clean one makes the
// node ready.
func (d *daemon) passed(p backend.Pass) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.metrics.pass(p)
	d.lastPass = &status.Pass{At: time.Now(), Why: p.Why, Changes: len(p.Changes)}
	logChanges(d.log, p)
	d.badPass.set(passFault(p))
	if p.Err != nil {
		d.lastPass.Error = brief(p.Err)
		return
	}
	err := d.node.file().WriteFile(d.config.SubnetFile)
	if err != nil {
		d.badFile.set(map[string]error{d.config.SubnetFile: err})
		return
	}
	d.badFile.set(nil)
	if !d.ready {
		d.ready, d.doing = true, "ready"
		d.metrics.ready.Set(1)
		d.log.Info("ready", zap.Stringer("subnet", d.node.self), zap.String("file", d.config.SubnetFile), zap.Duration("after", time.Since(d.born).Round(time.Millisecond)))
		notify(sd.SdNotifyReady + "\nSTATUS=ready, subnet " + d.node.self.String())
	}
}
