// Package reach finds out how well another node is reached through the overlay,
// and where it ends if it is not. The other node's kernel answers, so a node is
// reached whether its tulled runs or not.
package reach

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Target is where a node is probed.
type Target struct {
	Overlay  netip.Addr // an address of the node's that packets take the pods' way to
	Underlay netip.Addr // of the node itself; may be the same
	MTU      int        // the largest packet that pods may send
}

// Outcome is what became of one kind of probe.
type Outcome uint8

// The outcomes. A probe that cannot be made on this host is Untried as well.
const (
	Untried Outcome = iota
	Answered
	Lost
)

func (o Outcome) String() string { return [...]string{"not tried", "answered", "lost"}[o] }

// Sample is what one look at a node found.
type Sample struct {
	At    time.Time
	RTT   time.Duration // of the first small packet that was answered
	Sent  int           // small packets through the overlay
	Lost  int           // of them, not answered
	Small Outcome       // a small packet through the overlay
	Full  Outcome       // one of Target.MTU bytes, not to be fragmented
	// A TCP segment whose checksum is left to the device, which is where a faulty
	// one goes wrong, and one whose checksum is computed before.
	Offloaded, Computed Outcome
	Direct              Outcome // a small packet to the underlay address
}

// Tries is how many packets of a kind are sent before they count as lost, and
// Timeout how long each may take.
const (
	Tries   = 3
	Timeout = 500 * time.Millisecond
)

// Look probes a node. What says nothing new is left out: the way outside of the
// overlay is only tried where the overlay's own does not work. It returns an
// error if this process may not send probes, or if ctx ends.
func Look(ctx context.Context, t Target) (Sample, error) {
	s := Sample{At: time.Now()}
	var err error
	s.Small, err = try(ctx, func() error {
		rtt, err := echo(ctx, t.Overlay, smallSize)
		if s.Sent++; err != nil {
			s.Lost++
		}
		s.RTT = rtt
		return err
	})
	if err == nil && s.Small == Lost && t.Underlay != t.Overlay {
		s.Direct, err = try(ctx, func() error { _, err := echo(ctx, t.Underlay, smallSize); return err })
	}
	if err != nil || s.Small == Lost {
		return s, err
	}
	if s.Full, err = try(ctx, func() error { _, err := echo(ctx, t.Overlay, t.MTU); return err }); err != nil {
		return s, err
	}
	if s.Offloaded, err = try(ctx, func() error { return knock(ctx, t.Overlay) }); err != nil || s.Offloaded == Answered {
		return s, err
	}
	s.Computed, err = try(ctx, func() error { return knockComputed(ctx, t.Overlay) })
	return s, err
}

// Largest finds the largest packet that a node answers through the overlay, where
// small ones are answered and those of Target.MTU are not.
func Largest(ctx context.Context, t Target) int {
	good, bad := smallSize, t.MTU
	for bad-good > 1 && ctx.Err() == nil {
		middle := (good + bad) / 2
		if o, _ := try(ctx, func() error { _, err := echo(ctx, t.Overlay, middle); return err }); o == Answered {
			good = middle
		} else {
			bad = middle
		}
	}
	return good
}

// try makes a probe until it is answered or has been lost Tries times. It is lost
// as well where a route or a rule of this host keeps it back: what pods send meets
// the same.
func try(ctx context.Context, probe func() error) (Outcome, error) {
	for range Tries {
		err := probe()
		switch {
		case err == nil:
			return Answered, nil
		case ctx.Err() != nil:
			return Untried, ctx.Err()
		case errors.Is(err, ErrNoSocket):
			return Untried, err
		}
	}
	return Lost, nil
}
