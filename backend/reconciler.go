package backend

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// Kernel holds the rows. Its methods are called one at a time.
type Kernel interface {
	// Dump reads the rows of some kinds that are ours, and whatever stands under
	// the Keys of want. It hands them to part, some of the kinds at a time and
	// each of the kinds once, so that not all rows of a large cluster are held
	// twice. An error means that nothing is known: rows may be missing.
	Dump(ctx context.Context, kinds Kinds, want State, part func(kinds Kinds, have State)) error
	// Apply makes the changes in order, and returns those that it made. It goes
	// on after a change that the kernel refuses, but for one of a link, on which
	// the others depend; the error joins a *ChangeError for each.
	Apply(ctx context.Context, changes []Change) (made []Change, err error)
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
	Kinds   Kinds    // that the kernel was asked for; none: only new wishes were applied
	Changes []Change // what was changed in the kernel
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
// without being woken, which is a safety net, and how it retries.
const (
	gather = 20 * time.Millisecond
	// What keeps the kernel from being as wanted may be gone with any wake, but
	// a lasting one is not tried at each.
	gatherAfterError = 500 * time.Millisecond
	period           = 5 * time.Minute
	retryFirst       = time.Second
	retryMost        = 30 * time.Second
)

// Reconciler keeps the kernel equal to a wanted State. It compares with what
// the kernel holds, not with what it once did, so that nothing lasts that
// anybody else does to our rows.
//
// When the wanted State changes, the difference to the former one is applied at
// once, at a cost that does not grow with all that stays. Passes that look at the
// kernel's tables follow a Wake, an error, and a timer.
type Reconciler struct {
	kernel Kernel
	report func(Pass)
	update chan struct{} // size one; Update sends, Run receives
	wake   chan struct{} // size one; Wake sends, Run receives
	alarm  chan struct{} // size one; Heard sends, Run receives
	ask    chan struct{} // Alive sends, Run receives between passes

	wantMu sync.RWMutex // guards want, with mu: who writes holds both, who reads one of them

	mu sync.Mutex // guards all following fields, and the kernel

	want    State
	started bool           // there was an Update
	clean   bool           // the kernel holds want, but for what is pending
	pending map[Key]Change // of want, not yet applied; kept only while clean
	woken   Kinds          // to look at when a wake is received
}

// NewReconciler returns a Reconciler that wants nothing yet and tells report
// about every pass. The kernel is not touched before Run and the first Update.
func NewReconciler(k Kernel, report func(Pass)) *Reconciler {
	return &Reconciler{
		kernel:  k,
		report:  report,
		update:  make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		alarm:   make(chan struct{}, 1),
		ask:     make(chan struct{}),
		want:    State{},
		pending: map[Key]Change{},
	}
}

// Update lets f change the wanted State; f returns what it changed, as
// Plan.Follow does, and must not keep the State. Update may wait for a pass
// that is under way, and returns before the kernel has what is wanted.
func (r *Reconciler) Update(f func(want State) []Change) {
	r.mu.Lock()
	r.wantMu.Lock()
	changes := f(r.want)
	r.wantMu.Unlock()
	for _, c := range changes {
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
	r.Update(func(now State) []Change { return now.Become(want) })
}

// Wake asks for a look at some kinds soon. Many wakes may lead to one pass.
func (r *Reconciler) Wake(kinds Kinds) {
	r.mu.Lock()
	r.woken |= kinds
	r.mu.Unlock()
	signal(r.wake)
}

// Heard tells that a row was set, or is gone. It leads to a look at the tables if
// that is not as wanted. It never waits for a pass: what the kernel tells of the
// many rows of one must not pile up meanwhile.
func (r *Reconciler) Heard(row Entry, gone bool) {
	r.wantMu.RLock()
	alarming := Alarming(r.want, row, gone)
	r.wantMu.RUnlock()
	if alarming {
		signal(r.alarm)
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
	have = State{}
	err = r.kernel.Dump(ctx, AllKinds, r.want, func(_ Kinds, rows State) { maps.Copy(have, rows) })
	return maps.Clone(r.want), have, err
}

// Alive returns when Run has shown that it goes on, or with the error of ctx.
func (r *Reconciler) Alive(ctx context.Context) error {
	select {
	case r.ask <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run makes passes until ctx ends, and returns its error.
func (r *Reconciler) Run(ctx context.Context) error {
	retry := retryFirst
	timer := time.NewTimer(period)
	defer timer.Stop()
	why := WhyTimer // of the pass that the timer leads to
	for {
		p := Pass{Why: why, Kinds: AllKinds}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.update:
			p.Why, p.Kinds = WhyUpdate, 0
		case <-r.alarm:
			r.Wake(Network)
			continue
		case <-r.ask:
			continue
		case <-r.wake:
			wait := gather
			if why == WhyRetry {
				wait = gatherAfterError
			}
			if err := sleep(ctx, wait); err != nil {
				return err
			}
			p.Why, p.Kinds = WhyWake, r.takeWoken()
		case <-timer.C:
		}
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
	if !r.clean {
		p.Kinds = AllKinds
	}
	if p.Kinds != 0 {
		p.Changes, p.Err = r.look(ctx, p.Kinds)
	}
	if p.Err == nil {
		var rest []Change // wishes of kinds that were not looked at
		for key, c := range r.pending {
			if !p.Kinds.Has(key.Kind) {
				rest = append(rest, c)
			}
		}
		sortChanges(rest)
		var made []Change
		made, p.Err = r.kernel.Apply(ctx, rest)
		p.Changes = append(p.Changes, made...)
		if p.Err == nil && changesLink(made) {
			p.Kinds = AllKinds
			made, p.Err = r.look(ctx, AllKinds)
			p.Changes = append(p.Changes, made...)
		}
	}
	clear(r.pending)
	r.clean = p.Err == nil
	p.Took = time.Since(start)
	return true
}

// look dumps, diffs and applies. A link that changed may have taken rows with
// it, and has settings of its own, so then it looks again.
func (r *Reconciler) look(ctx context.Context, kinds Kinds) ([]Change, error) {
	var all []Change
	for {
		var changes []Change
		err := r.kernel.Dump(ctx, kinds, r.want, func(some Kinds, have State) {
			changes = append(changes, differences(some, r.want, have)...)
		})
		if err != nil {
			return all, err
		}
		if len(changes) == 0 {
			return all, nil
		}
		sortChanges(changes)
		made, err := r.kernel.Apply(ctx, changes)
		again := err == nil && len(all) == 0 && changesLink(changes)
		if all = append(all, made...); len(all) == len(made) {
			all = made // not a copy, which may be large
		}
		if !again {
			return all, err
		}
		kinds |= Settings
	}
}

// takeWoken is what was asked to be looked at since the last call.
func (r *Reconciler) takeWoken() Kinds {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.wake: // was sent after the one just received, and is answered as well
	default:
	}
	kinds := r.woken
	r.woken = 0
	return kinds
}

func changesLink(changes []Change) bool {
	for _, c := range changes {
		if c.Key().Kind == KindLink {
			return true
		}
	}
	return false
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
