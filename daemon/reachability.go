package main

import (
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"tulle/internal/reach"
	"tulle/internal/status"
	"tulle/subnet"
)

// reachRound is how long a look at all peers takes at least: a few peers are not
// bothered more often because they are few.
const reachRound = 5 * time.Second

// reachability is what is known of how the peers are reached.
type reachability struct {
	mu sync.Mutex // guards all following fields

	queue []string // peers to look at next, by lease key
	round time.Time
	peers map[string]reached

	verdicts map[reach.Verdict]int // how many peers have each
}

// reached is what is known of one peer.
type reached struct {
	samples [2]reach.Sample // the last, by Family of the address
	lost    uint64          // a bit for each of the last small packets, set if it was lost
	sent    int             // how many bits of lost count, 64 at most
}

// worst is the sample that an operator wants to know of.
func (r reached) worst() reach.Sample {
	a, b := r.samples[0], r.samples[1]
	if a.At.IsZero() || !b.At.IsZero() && a.Verdict() == reach.Good {
		return b
	}
	return a
}

func (r reached) status() *status.Reach {
	s := r.worst()
	return &status.Reach{
		Verdict: string(s.Verdict()), Meaning: s.Verdict().Meaning(),
		Sent: r.sent, Lost: bits.OnesCount64(r.lost), RTT: s.RTT.Seconds(), At: s.At,
	}
}

// next is which of a peer's targets to look at: the one that was not for longer.
func (r reached) next(targets [2]reach.Target) (subnet.Family, reach.Target) {
	f := subnet.IPv4
	if there, six := targets[subnet.IPv4].Overlay.IsValid(), targets[subnet.IPv6].Overlay.IsValid(); !there || six && r.samples[subnet.IPv6].At.Before(r.samples[subnet.IPv4].At) {
		f = subnet.IPv6
	}
	return f, targets[f]
}

// with is what is known after another sample.
func (r reached) with(f subnet.Family, s reach.Sample) reached {
	r.samples[f] = s
	for i := range s.Sent {
		r.lost <<= 1
		if i < s.Lost {
			r.lost |= 1
		}
	}
	r.sent = min(64, r.sent+s.Sent)
	return r
}

// watchPeers looks at one peer after another, about one in each interval however
// many there are, until ctx ends.
func (d *daemon) watchPeers(ctx context.Context) error {
	if d.config.ProbeInterval == 0 {
		return nil
	}
	for {
		wait := d.config.ProbeInterval/2 + rand.N(d.config.ProbeInterval) // nodes started together part
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		key, f, target, ok := d.nextPeer()
		if !ok {
			continue
		}
		s, err := reach.Look(ctx, target)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, reach.ErrNoSocket) {
			d.log.Warn("peers are not probed; tullectl status and mesh tell nothing of loss and delay", zap.Error(err))
			return nil
		}
		if err == nil {
			d.saw(key, f, target, s)
		}
	}
}

// nextPeer is the peer to look at, by which family, and where. It is not ok if it
// is too soon or there is none.
func (d *daemon) nextPeer() (key string, f subnet.Family, target reach.Target, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &d.reachability
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		if time.Since(h.round) < reachRound {
			return "", f, target, false
		}
		h.round = time.Now()
		known, verdicts := map[string]reached{}, map[reach.Verdict]int{}
		for r := range d.leases.All() {
			if key := r.Key(); key != d.site.self.Key() {
				h.queue = append(h.queue, key)
				if p, ok := h.peers[key]; ok {
					known[key] = p
					verdicts[p.worst().Verdict()]++
				}
			}
		}
		for key := range h.peers {
			if _, stays := known[key]; !stays { // and those that left are forgotten
				delete(d.badReach.now, key)
			}
		}
		h.peers, h.verdicts = known, verdicts
		rand.Shuffle(len(h.queue), func(i, j int) { h.queue[i], h.queue[j] = h.queue[j], h.queue[i] })
	}
	for len(h.queue) > 0 {
		key, h.queue = h.queue[0], h.queue[1:]
		r, ok := d.leases.Get(key)
		if ok && d.plan.Rows(r.Lease) != nil {
			f, target = h.peers[key].next(d.site.targets(r.Lease))
			return key, f, target, true
		}
	}
	return "", f, target, false
}

// targets is where a peer is looked at, by Family.
func (s site) targets(l subnet.Lease) (targets [2]reach.Target) {
	for f, a := range s.overlayAddrs(l) {
		if a.IsValid() {
			targets[f] = reach.Target{Overlay: a, Underlay: l.Addrs[s.underlay.Family], MTU: s.backend().MTU(s.underlay)}
		}
	}
	return targets
}

// overlayAddrs is the addresses of a node itself that packets take the way of
// its pods to: that of its device, or with plain routes alone those that are the
// gateways to its pods.
func (s site) overlayAddrs(l subnet.Lease) (addrs [2]netip.Addr) {
	for f, p := range l.Subnets {
		switch {
		case !p.IsValid():
		case s.backend().Device() == "":
			addrs[f] = l.Addrs[f]
		default:
			addrs[f] = subnet.Gateway(p)
		}
	}
	return addrs
}

// saw keeps a sample, unless the peer has left or moved since it was looked at.
func (d *daemon) saw(key string, f subnet.Family, target reach.Target, s reach.Sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.leases.Get(key); !ok || d.site.targets(r.Lease)[f] != target {
		return
	}
	h := &d.reachability
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.peers[key]
	now := before.with(f, s)
	h.peers[key] = now
	was, verdict := before.worst().Verdict(), now.worst().Verdict()
	if known {
		h.verdicts[was]--
	}
	h.verdicts[verdict]++
	d.metrics.probed(s, h.verdicts)
	if known && was == verdict {
		return
	}
	var fault error
	if verdict != reach.Good {
		fault = errors.New(string(verdict) + ": " + verdict.Meaning())
	}
	d.badReach.tell(key, fault)
}

// reach is what is known of a peer, or nil.
func (h *reachability) reach(key string) *status.Reach {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p, ok := h.peers[key]; ok {
		return p.status()
	}
	return nil
}

// all is what is known of all peers, by subnet.
func (h *reachability) all(leases subnet.Leases) map[string]status.Reach {
	all := map[string]status.Reach{}
	for r := range leases.All() {
		if known := h.reach(r.Key()); known != nil {
			all[subnetsText(r.Lease)] = *known
		}
	}
	return all
}
