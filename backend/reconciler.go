package backend

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
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
	WhyUpdate = "wanted state changed"
	WhyWake   = "kernel changed"
	WhyTimer  = "periodic look"
	WhyRetry  = "retry after error"
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
	update chan struct{} // size one; Update sends, Run receives
	wake   chan struct{} // size one; Wake sends, Run receives

	mu sync.Mutex // guards all following fields, and the kernel

	want    State
	started bool           // there was an Update
	clean   bool           // the kernel holds want, but for what is pending
	pending map[Key]Change // of want, not yet applied; kept only while clean
}

// NewReconciler returns a Reconciler that wants nothing yet and tells report
// about every pass. The kernel is not touched before Run and the first Update.
func NewReconciler(k Kernel, report func(Pass)) *Reconciler {
	return &Reconciler{
		kernel:  k,
		report:  report,
		update:  make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		want:    State{},
		pending: map[Key]Change{},
	}
}

// Update lets f change the wanted State; f returns what it changed, as
// Plan.Follow does, and must not keep the State. Update may wait for a pass
// that is under way, and returns before the kernel has what is wanted.
func (r *Reconciler) Update(f func(want State) []Change) {
	r.mu.Lock()
	for _, c := range f(r.want) {
		if !r.clean {
			break // a full pass will see it
		}
		key := c.Key()
		if former, ok := r.pending[key]; ok {
			c.Have = former.Have
		}
		if c.Have == c.Want {
			delete(r.pending, key)
		} else {
			r.pending[key] = c
		}
	}
	r.started = true
	r.mu.Unlock()
	signal(r.update)
}

// Set replaces the wanted State by another.
func (r *Reconciler) Set(want State) {
	r.Update(func(now State) []Change {
		changes := Diff(want, now)
		clear(now)
		maps.Copy(now, want)
		return changes
	})
}

// Wake asks for a full pass soon. It never blocks; many wakes may lead to one
// pass.
func (r *Reconciler) Wake() { signal(r.wake) }

// Heard tells that a row was set, or is gone. It leads to a full pass if that is
// not as wanted.
func (r *Reconciler) Heard(row Entry, gone bool) {
	r.mu.Lock()
	alarming := Alarming(r.want, row, gone)
	r.mu.Unlock()
	if alarming {
		r.Wake()
	}
}

// Alarming reports whether a change is not as wanted: a wanted row is gone, or a
// row was set that is not wanted so.
func Alarming(want State, row Entry, gone bool) bool {
	wanted := want[row.Key()]
	if gone {
		return wanted != nil
	}
	return wanted != row
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way already
	}
}

// Look returns a copy of what is wanted, and what the kernel holds now.
func (r *Reconciler) Look(ctx context.Context) (want, have State, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, err = r.kernel.Dump(ctx, r.want)
	return maps.Clone(r.want), have, err
}

// Run makes passes until ctx ends, and returns its error.
func (r *Reconciler) Run(ctx context.Context) error {
	retry := retryFirst
	timer := time.NewTimer(period)
	defer timer.Stop()
	why := WhyTimer // of the pass that the timer leads to
	for {
		p := Pass{Why: why}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.update:
			p.Why = WhyUpdate
		case <-r.wake:
			p.Why = WhyWake
			if err := sleep(ctx, gather); err != nil {
				return err
			}
			forget(r.wake)
		case <-timer.C:
		}
		p.Full = p.Why != WhyUpdate
		if !r.pass(ctx, &p) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.Err == nil {
			why, retry = WhyTimer, retryFirst
			timer.Reset(period + rand.N(period/4))
		} else {
			why = WhyRetry
			timer.Reset(retry)
			retry = min(2*retry, retryMost)
		}
		r.report(p)
	}
}

// pass makes one pass and reports whether there was anything to want.
func (r *Reconciler) pass(ctx context.Context, p *Pass) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started {
		return false
	}
	start := time.Now()
	if p.Full = p.Full || !r.clean; p.Full {
		p.Changes, p.Err = r.full(ctx)
	} else {
		p.Changes = slices.Collect(maps.Values(r.pending))
		sortChanges(p.Changes)
		p.Err = r.kernel.Apply(ctx, p.Changes)
	}
	clear(r.pending)
	r.clean = p.Err == nil
	p.Took = time.Since(start)
	return true
}

// full dumps, diffs and applies. A link that changed may have taken rows with
// it, so then it looks again.
func (r *Reconciler) full(ctx context.Context) ([]Change, error) {
	var all []Change
	for {
		have, err := r.kernel.Dump(ctx, r.want)
		if err != nil {
			return all, err
		}
		changes := Diff(r.want, have)
		if len(changes) == 0 {
			return all, nil
		}
		err = r.kernel.Apply(ctx, changes)
		again := err == nil && len(all) == 0 && changesLink(changes)
		all = append(all, changes...)
		if !again {
			return all, err
		}
	}
}

func changesLink(changes []Change) bool {
	for _, c := range changes {
		if c.Key().Kind == KindLink {
			return true
		}
	}
	return false
}

// forget takes back a signal that was sent and not received.
func forget(c chan struct{}) {
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
