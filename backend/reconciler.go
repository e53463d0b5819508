package backend

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Kernel holds the rows. Its methods are called one at a time.
type Kernel interface {
	// Dump returns the rows that are ours and whatever stands under the Keys of
	// want. An error means that nothing is known: rows may be missing.
	Dump(ctx context.Context, want State) (State, error)
	// Apply makes the changes in order. It goes on after a change that the
	// kernel refuses, but for one of a link, and joins a *ChangeError for each.
	Apply(ctx context.Context, changes []Change) error
}

// ChangeError says why the kernel refused a Change.
type ChangeError struct {
	Change Change
	Err    error
}

func (e *ChangeError) Error() string { return e.Change.String() + ": " + e.Err.Error() }

func (e *ChangeError) Unwrap() error { return e.Err }

// Pass tells what one pass of the Reconciler did.
type Pass struct {
	Why     string   // what led to the pass
	Full    bool     // the kernel was dumped; else only the new wishes were applied
	Changes []Change // what was applied or tried
	Err     error    // nil: the kernel holds what is wanted
	Took    time.Duration
}

// Why a pass is made.
const (
	WhySet   = "wanted state changed"
	WhyWake  = "kernel changed"
	WhyTimer = "periodic look"
	WhyRetry = "retry after error"
)

// Times of the Reconciler: how long it gathers wakes, how often it looks
// without being woken, and how it retries.
const (
	gather     = 20 * time.Millisecond
	period     = 30 * time.Second
	retryFirst = time.Second
	retryMost  = period
)

// Reconciler keeps the kernel equal to a wanted State. It compares with what
// the kernel holds, not with what it once did, so that nothing lasts that
// anybody else does to our rows.
//
// When the wanted State changes, the difference to the former one is applied at
// once, at a cost that does not grow with all that stays. Full passes, which
// dump the kernel, follow a Wake, an error, and a timer.
type Reconciler struct {
	kernel Kernel
	report func(Pass)
	set    chan struct{} // size one; Set sends, Run receives
	wake   chan struct{} // size one; Wake sends, Run receives

	kernelMu sync.Mutex // held while the kernel is asked or changed

	mu   sync.Mutex // guards all following fields
	want State      // nil before the first Set
}

// NewReconciler returns a Reconciler that tells report about every pass. The
// kernel is not touched before Run and the first Set.
func NewReconciler(k Kernel, report func(Pass)) *Reconciler {
	return &Reconciler{
		kernel: k,
		report: report,
		set:    make(chan struct{}, 1),
		wake:   make(chan struct{}, 1),
	}
}

// Set replaces the wanted state; the caller must not change it afterwards. It
// returns at once, and may be called again with an equal state at no cost to
// the kernel.
func (r *Reconciler) Set(want State) {
	r.mu.Lock()
	r.want = want
	r.mu.Unlock()
	signal(r.set)
}

// Wake asks for a full pass soon. It never blocks; many wakes may lead to one
// pass.
func (r *Reconciler) Wake() { signal(r.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way already
	}
}

// Look returns what is wanted and what the kernel holds now.
func (r *Reconciler) Look(ctx context.Context) (want, have State, err error) {
	want = r.wanted()
	r.kernelMu.Lock()
	defer r.kernelMu.Unlock()
	have, err = r.kernel.Dump(ctx, want)
	return want, have, err
}

func (r *Reconciler) wanted() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want
}

// Run makes passes until ctx ends, and returns its error.
func (r *Reconciler) Run(ctx context.Context) error {
	var held State // what the kernel holds, if the last pass was clean; else nil
	retry := retryFirst
	timer := time.NewTimer(period)
	defer timer.Stop()
	why := WhyTimer // of the pass that the timer leads to
	for {
		p := Pass{Why: why}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.set:
			p.Why = WhySet
		case <-r.wake:
			p.Why = WhyWake
			if err := sleep(ctx, gather); err != nil {
				return err
			}
			clear1(r.wake)
		case <-timer.C:
		}
		want := r.wanted()
		if want == nil {
			continue
		}
		start := time.Now()
		if p.Full = p.Why != WhySet || held == nil; p.Full {
			p.Changes, p.Err = r.full(ctx, want)
		} else {
			p.Changes, p.Err = r.apply(ctx, want, held)
		}
		p.Took = time.Since(start)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.Err != nil {
			held, why = nil, WhyRetry
			timer.Reset(retry)
			retry = min(2*retry, retryMost)
		} else {
			held, why = want, WhyTimer
			timer.Reset(period + rand.N(period/4))
			retry = retryFirst
		}
		r.report(p)
	}
}

// full dumps, diffs and applies. A link that changed may have taken rows with
// it, so then it looks again.
func (r *Reconciler) full(ctx context.Context, want State) ([]Change, error) {
	var all []Change
	for {
		r.kernelMu.Lock()
		have, err := r.kernel.Dump(ctx, want)
		r.kernelMu.Unlock()
		if err != nil {
			return all, err
		}
		changes, err := r.apply(ctx, want, have)
		again := err == nil && len(all) == 0 && changesLink(changes)
		all = append(all, changes...)
		if !again {
			return all, err
		}
	}
}

func (r *Reconciler) apply(ctx context.Context, want, have State) ([]Change, error) {
	changes := Diff(want, have)
	if len(changes) == 0 {
		return nil, nil
	}
	r.kernelMu.Lock()
	defer r.kernelMu.Unlock()
	return changes, r.kernel.Apply(ctx, changes)
}

func changesLink(changes []Change) bool {
	for _, c := range changes {
		if c.Key().Kind == KindLink {
			return true
		}
	}
	return false
}

func clear1(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
