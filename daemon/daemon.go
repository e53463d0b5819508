package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/backend/kernel"
	"tulle/internal/status"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// daemon is the running process: it hears of etcd, of the kernel and of whoever
// asks for its state.
type daemon struct {
	config  config
	log     *zap.Logger
	born    time.Time
	metrics *metrics
	claims  claims
	names   names // of etcd's hosts

	begun        chan struct{} // closed by begin; what follows is set then
	moved        chan struct{} // size one; sent when the host or the network may have changed, tend receives
	settled      chan struct{} // size one; settle sends, serveMesh receives
	graceOver    chan struct{} // size one; sent when etcd had time enough to tell of all peers again, tend receives
	ask          chan struct{} // the watchdog sends, tend receives
	kernel       *kernel.Kernel
	jumps        []backend.Jump    // that the kernel was opened for
	guard        backend.GuardMode // as far as the kernel can
	firewall     backend.Tool      // that was given, or suits the host
	rec          *backend.Reconciler
	reachability reachability

	mu sync.Mutex // guards all following fields

	doing     string // the phase, until ready
	ready     bool
	connected bool        // to etcd
	client    *etcd.Store // which may be about to take the lease
	store     *etcd.Store // that holds the lease
	site      site
	plan      *backend.Plan
	snapshot  subnet.Snapshot // the last one that our lease was in
	leases    subnet.Leases   // that the wanted state is made of
	before    subnet.Leases   // of peers, when etcd lost our lease; empty at other times
	bereft    bool            // etcd has not our lease
	grace     *time.Timer     // runs since it had that again; nil: it has lost none
	written   bool            // the kernel was as wanted once
	lastPass  *status.Pass
	changed   time.Time // when etcd told of what the kernel has not yet; zero: it has all

	candidates []backend.Candidate // that the underlay was chosen of
	doubted    subnet.Leases       // that the choice was last held against

	badKeys, badPeers, badNetwork, badUnderlay, badChoice, badPass, badFile, badMemory, badSocket, badReach trouble
}

func newDaemon(c config, log *zap.Logger) *daemon {
	d := &daemon{
		config: c, log: log, born: time.Now(), metrics: newMetrics(),
		begun: make(chan struct{}), moved: make(chan struct{}, 1), settled: make(chan struct{}, 1), graceOver: make(chan struct{}, 1), ask: make(chan struct{}),
		badKeys:     trouble{log: log, begin: "a key among the leases is none and is left out", end: "a key that was no lease is gone or right now", field: "key"},
		badPeers:    trouble{log: log, begin: "a peer's lease makes no sense and is left out", end: "a peer's lease that was left out is gone or right now", field: "key"},
		badNetwork:  trouble{log: log, begin: "the network configuration is not followed; all stays as it is", end: "the network configuration is followed again", field: "key"},
		badUnderlay: trouble{log: log, begin: "no device for the other nodes any more; all stays as it is", end: "there is a device for the other nodes again", field: "what"},
		badChoice:   trouble{log: log, begin: "the underlay may be the wrong one", end: "the underlay is in no doubt any more", field: "what"},
		badPass:     trouble{log: log, begin: "the kernel is not as wanted; trying again", end: "the kernel is as wanted again", field: "what"},
		badSocket:   trouble{log: log, begin: "operations of the CNI plugin can't be heard; it works, and they are not counted", end: "operations of the CNI plugin are heard", field: "socket"},
		badFile:     trouble{log: log, begin: "the subnet file can't be written; trying again; until then no new pods start", end: "the subnet file is written", field: "file"},
		badReach:    trouble{log: log, begin: "a peer is not reached as pods need it", end: "a peer is reached again", field: "key"},
		badMemory:   trouble{log: log, begin: "the state file can't be written; trying again; without it a restart needs etcd", end: "the state file is written", field: "file"},
	}
	d.metrics.follow(d)
	return d
}

// storeNow is etcd's, or nil before there was a connection.
func (d *daemon) storeNow() *etcd.Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store
}

// phase tells what the daemon does or waits for until it is ready.
func (d *daemon) phase(doing string) {
	d.mu.Lock()
	ready := d.ready
	if !ready {
		d.doing = doing
	}
	d.mu.Unlock()
	if !ready {
		notify("STATUS=" + doing)
	}
}

// notify tells systemd, if it started us; if that fails there is nobody to tell.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// openKernel opens the kernel, once, for a site that no other daemon of this host
// keeps us from.
func (d *daemon) openKernel(s site) error {
	if err := d.claims.serve(s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	jumps := d.jumpsOf(s)
	if d.kernel != nil {
		if d.rec == nil && !slices.Equal(jumps, d.jumps) {
			return errors.New("the network has other families than when this start looked at the host; start tulled again")
		}
		return nil
	}
	if err := d.chooseFirewall(); err != nil {
		return err
	}
	k, err := kernel.Open(kernelConfig(s.input(d.config, backend.Input{}), d.firewall))
	if err != nil {
		return err
	}
	if !k.Nexthops() {
		d.log.Warn("this kernel has no nexthop objects (Linux 5.3); thousands of nodes will be slow to add")
	}
	d.guard = d.config.Guard
	if d.guard != backend.GuardOff {
		if err := k.CanGuard(); errors.Is(err, kernel.ErrNoGuard) {
			d.log.Warn("no nftables here, so VXLAN packets from strangers are not dropped", zap.Error(err))
			d.guard = backend.GuardOff
		} else if err != nil {
			return err
		}
	}
	k.Own(former(d.config)...)
	d.kernel, d.jumps = k, jumps
	d.metrics.guard(k.Drops)
	return nil
}

// jumpsOf is those that could be ours for a site.
func (d *daemon) jumpsOf(s site) []backend.Jump {
	return firewall.Jumps(s.input(d.config, backend.Input{}))
}

// kernelConfig says what is ours in the kernel, and what to write rules with.
func kernelConfig(in backend.Input, tool backend.Tool) kernel.Config {
	return kernel.Config{Owner: in.Owner, Jumps: firewall.Jumps(in), Table: firewall.Table(in.Scope), Firewall: tool}
}

// chooseFirewall says what to work with from now on, and what it can't reach.
func (d *daemon) chooseFirewall() error {
	have, err := kernel.Firewalls()
	if err != nil {
		return fmt.Errorf("look at the host's firewalls: %w", err)
	}
	tool, why := firewall.Choose(have)
	if given := d.config.Firewall; given != nil {
		tool, why = *given, "--firewall says so"
	}
	d.firewall = tool
	d.log.Info("firewall chosen", zap.Stringer("firewall", tool), zap.String("why", why))
	if have.LegacyUnheard {
		d.log.Warn("legacy iptables has rules here, and there is no iptables-legacy to let pods' packets pass them; install it if they drop what is forwarded")
	}
	if have.FirewalldUnheard {
		d.log.Warn("firewalld lets nobody else into its table; put the pods' network into its zone trusted and open the VXLAN port")
	}
	return nil
}

// host is what this host can, for the wanted state.
func (d *daemon) host() backend.Input {
	return backend.Input{Nexthops: d.kernel.Nexthops(), Guard: d.guard, Firewall: d.firewall}
}

// begin takes part in the network, unless that has begun already.
func (d *daemon) begin(s site, candidates []backend.Candidate, known subnet.Snapshot) error {
	if err := d.openKernel(s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rec != nil {
		return nil
	}
	d.log.Info("underlay chosen", zap.String("dev", s.underlay.Dev), zap.Stringer("address", s.underlay.Addr()),
		zap.Int("mtu", s.underlay.MTU), zap.String("why", s.why), zap.Stringers("candidates", candidates))
	d.doing = "writing the kernel's tables"
	d.rec = backend.NewReconciler(d.kernel, d.passed)
	d.snapshot = known
	d.site, d.candidates = s, candidates
	d.kernel.Own(s.network.Prefixes()...)
	d.plan = s.plan(d.config, d.host())
	if known.Leases.Len() > 0 {
		d.advance(known.Leases)
	}
	close(d.begun)
	return nil
}

// etcdUp hears whether etcd is there and answers.
func (d *daemon) etcdUp(up bool) {
	d.mu.Lock()
	d.connected = up
	d.mu.Unlock()
	d.metrics.up(up)
}

// Heard implements kernel.Listener.
func (d *daemon) Heard(row backend.Entry, gone bool) { d.rec.Heard(row, gone) }

// Wake implements kernel.Listener.
func (d *daemon) Wake(kinds backend.Kinds) { d.rec.Wake(kinds) }

// Moved implements kernel.Listener.
func (d *daemon) Moved() { nudge(d.moved) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way already
	}
}

// follow makes a snapshot's leases the wanted state. Where our own lease is not
// among them, etcd has lost its data or somebody deleted our key: nothing is torn
// down, and what comes after our lease is back is followed again.
func (d *daemon) follow(s subnet.Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.badKeys.set(s.Faults)
	if self, ok := s.Leases.Get(d.site.self.Key()); !ok || self.Node != d.config.Node {
		if !d.bereft && d.leases.Len() > 0 {
			d.bereft, d.before = true, d.leases
		}
		return
	}
	if d.bereft {
		d.bereft = false
		if d.grace != nil {
			d.grace.Stop() // of an earlier loss
		}
		d.grace = time.AfterFunc(grace, func() { nudge(d.graceOver) })
	}
	if s.NetworkErr != nil || s.Network != d.site.network || len(d.badNetwork.now) > 0 {
		d.Moved()
	}
	d.snapshot = s
	d.advance(merge(d.before, s.Leases))
}

// forget is called when the time is over for which peers were kept that etcd
// has lost.
func (d *daemon) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.bereft {
		d.before = subnet.Leases{}
		d.advance(d.snapshot.Leases)
	}
}

// advance makes leases the wanted state. The caller holds d.mu.
func (d *daemon) advance(leases subnet.Leases) {
	before := d.leases
	d.leases = leases
	d.rec.Update(func(want backend.State) []backend.Change {
		changes := d.plan.Follow(want, leases)
		d.metrics.wanted(changes)
		if len(changes) > 0 && d.changed.IsZero() {
			d.changed = time.Now()
		}
		return changes
	})
	logPeers(d.log, leases, before, d.site.self.Key(), d.plan)
	d.badPeers.set(d.plan.Faults())
	d.metrics.snapshot(d.snapshot, d.plan)
}

// rewrite makes the whole wanted state anew, from a new plan. The caller holds
// d.mu.
func (d *daemon) rewrite() {
	d.rec.Update(func(want backend.State) []backend.Change {
		now := backend.State{}
		d.plan.Follow(now, d.leases)
		changes := want.Become(now)
		d.metrics.wanted(changes)
		return changes
	})
	d.badPeers.set(d.plan.Faults())
	d.metrics.snapshot(d.snapshot, d.plan)
}

// passed hears of every pass of the reconciler. The first clean one makes the
// node ready.
func (d *daemon) passed(p backend.Pass) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.metrics.pass(p)
	d.measure(p)
	d.lastPass = &status.Pass{At: time.Now(), Why: p.Why, Changes: len(p.Changes)}
	logChanges(d.log, p)
	d.badPass.set(faultOf("kernel", p.Err))
	if p.Err != nil {
		d.lastPass.Error = brief(p.Err)
		return
	}
	d.written = true
	d.publish()
}

// withdraw takes the subnet file away: no pod may get an address that is another
// node's by now.
func withdraw(c config) error {
	err := os.Remove(c.SubnetFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// publish writes the subnet file, if it is not there as it should be, and makes
// the node ready the first time. The caller holds d.mu.
func (d *daemon) publish() {
	want, path := d.site.file(d.config), d.config.SubnetFile
	there, err := subnet.ReadFile(path)
	missing := err != nil || there != want
	if missing {
		err = want.WriteFile(path)
	}
	d.badFile.set(faultOf(path, err))
	switch {
	case err != nil:
		return // tend tries again
	case missing && d.ready:
		d.log.Info("the subnet file was gone or out of date and is written again", zap.String("file", path))
	}
	if !d.ready {
		d.ready, d.doing = true, "ready"
		d.metrics.ready.Set(1)
		d.log.Info("ready", zap.Stringer("subnet", d.site.self), zap.String("file", d.config.SubnetFile), zap.Duration("after", time.Since(d.born).Round(time.Millisecond)))
		notify(sd.SdNotifyReady + "\nSTATUS=ready, subnet " + d.site.self.String())
	}
}
