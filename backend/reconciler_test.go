package backend_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tulle/backend"
	"tulle/backend/backendtest"
)

// bench is a Reconciler at work on a kernel that is only a map, in a bubble of
// time of its own.
type bench struct {
	*backend.Reconciler
	kernel *backendtest.Kernel

	mu     sync.Mutex
	passes []backend.Pass
}

func work(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{kernel: &backendtest.Kernel{}}
		b.Reconciler = backend.NewReconciler(b.kernel, func(p backend.Pass) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.passes = append(b.passes, p)
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		f(t, b)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want %v", err, context.Canceled)
		}
	})
}

// take returns the passes since the last call.
func (b *bench) take() []backend.Pass {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.passes
	b.passes = nil
	return taken
}

func whys(passes []backend.Pass) []string {
	var list []string
	for _, p := range passes {
		list = append(list, p.Why)
	}
	return list
}

func rows(n int) backend.State {
	s := backend.NewState(backend.Link{Name: "tulle.1", Up: true})
	for i := range n {
		gw := netip.AddrFrom4([4]byte{10, 244, byte(i), 0})
		s.Add(backend.Neigh{Dev: "tulle.1", IP: gw}, backend.Route{Dst: netip.PrefixFrom(gw, 24), Via: gw, Dev: "tulle.1"})
	}
	return s
}

func TestKernelIsNotTouchedBeforeTheFirstWish(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Wake(backend.AllKinds)
		time.Sleep(time.Hour)
		if dumps, changes := b.kernel.Counts(); dumps+changes > 0 {
			t.Errorf("%d dumps and %d changes before the first wish", dumps, changes)
		}
	})
}

// The first wish leads to a whole look, a later one to the difference alone.
func TestLaterWishesCostTheirDifference(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Set(rows(100))
		synctest.Wait()
		dumps, changes := b.kernel.Counts()
		if dumps == 0 || changes != 201 {
			t.Errorf("first wish: %d dumps and %d changes, want a look and 201", dumps, changes)
		}
		b.Set(rows(101))
		synctest.Wait()
		if d, c := b.kernel.Counts(); d != dumps || c != changes+2 {
			t.Errorf("one peer more: %d dumps and %d changes, want none and 2", d-dumps, c-changes)
		}
		b.Set(rows(101))
		synctest.Wait()
		if d, c := b.kernel.Counts(); d != dumps || c != changes+2 {
			t.Errorf("the same again: %d dumps and %d changes, want none", d-dumps, c-changes-2)
		}
		if got := b.kernel.Rows(); !maps.Equal(got, rows(101)) {
			t.Errorf("the kernel has %v", got)
		}
	})
}

// A device that has to be made again takes its rows with it, and they are put back
// without anybody's telling that they are gone.
func TestRowsComeBackWithTheirDevice(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Set(rows(10))
		synctest.Wait()
		b.take()
		want := rows(10)
		want.Add(backend.Link{Name: "tulle.1", Up: true, VNI: 7})
		b.Set(want)
		synctest.Wait()
		if diff := backend.Diff(want, b.kernel.Rows()); len(diff) > 0 {
			t.Errorf("after the device was made again these differ: %v", diff)
		}
		if passes := b.take(); len(passes) != 1 || len(passes[0].Changes) != 21 {
			t.Errorf("passes %v, want one with all that was done", passes)
		}
	})
}

func TestWakeHeals(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Set(rows(3))
		synctest.Wait()
		b.take()
		b.kernel.Remove(backend.Link{Name: "tulle.1"}.Key())
		for range 5 { // many wakes that come together
			b.Wake(backend.Network)
		}
		time.Sleep(time.Second)
		if got := b.kernel.Rows(); !maps.Equal(got, rows(3)) {
			t.Errorf("after a wake the kernel has %v", got)
		}
		if got := whys(b.take()); !slices.Equal(got, []string{backend.WhyWake}) {
			t.Errorf("passes = %v, want one", got)
		}
	})
}

// What is heard leads to a look only if it is not as wanted.
func TestHeard(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Set(rows(3))
		synctest.Wait()
		b.take()
		wanted := backend.Neigh{Dev: "tulle.1", IP: netip.MustParseAddr("10.244.1.0")}
		altered, other := wanted, wanted
		altered.MAC[0] = 2
		other.IP = netip.MustParseAddr("10.244.99.0")
		for _, test := range []struct {
			name string
			row  backend.Entry
			gone bool
			look bool
		}{
			{"a wanted row is set", wanted, false, false},
			{"a wanted row is gone", wanted, true, true},
			{"a wanted row is altered", altered, false, true},
			{"a row that nobody wants", other, false, true},
			{"a row that nobody wants is gone", other, true, false},
		} {
			b.Heard(test.row, test.gone)
			time.Sleep(time.Second)
			if looked := len(b.take()) > 0; looked != test.look {
				t.Errorf("%s: looked %t, want %t", test.name, looked, test.look)
			}
		}
	})
}

// A pass may last, and what is heard meanwhile waits for nobody.
func TestHeardDuringAPass(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		row := backend.Neigh{Dev: "tulle.1", IP: netip.MustParseAddr("10.244.1.0")}
		goOn := make(chan bool)
		b.kernel.Refuse = func(c backend.Change) error {
			if c.Key() == row.Key() {
				<-goOn
			}
			return nil
		}
		b.Set(rows(3))
		synctest.Wait() // it is in the middle of the pass
		b.Heard(row, false)
		b.Heard(row, true)
		close(goOn)
		time.Sleep(time.Second)
		if got := whys(b.take()); !slices.Equal(got, []string{backend.WhyUpdate, backend.WhyWake}) {
			t.Errorf("passes = %v, want a look after the first", got)
		}
	})
}

func TestErrorIsTriedAgain(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		var refuse atomic.Bool
		refuse.Store(true)
		b.kernel.Refuse = func(c backend.Change) error {
			if refuse.Load() && c.Key() == (backend.Route{Dst: netip.MustParsePrefix("10.244.1.0/24")}).Key() {
				return errors.New("not now")
			}
			return nil
		}
		b.Set(rows(3))
		time.Sleep(4 * time.Second)
		passes := b.take()
		if got := whys(passes); !slices.Equal(got, []string{backend.WhyUpdate, backend.WhyRetry, backend.WhyRetry}) {
			t.Errorf("passes in the first 4 s = %v, want a try and two more after 1 s and 2 s", got)
		}
		var change *backend.ChangeError
		if !errors.As(passes[0].Err, &change) || change.Change.Want.String() != "route 10.244.1.0/24 via 10.244.1.0 dev tulle.1" {
			t.Errorf("error = %v, want the route named", passes[0].Err)
		}
		if len(passes[0].Changes) != 6 { // all but the one refused
			t.Errorf("the first pass tells of %d changes, want 6", len(passes[0].Changes))
		}
		refuse.Store(false)
		time.Sleep(time.Minute)
		if got := b.kernel.Rows(); !maps.Equal(got, rows(3)) {
			t.Errorf("in the end the kernel has %v", got)
		}
	})
}

// A dump that fails never leads to a change.
func TestFailedDumpChangesNothing(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		var fail atomic.Bool
		b.kernel.DumpErr = func() error {
			if fail.Load() {
				return errors.New("interrupted")
			}
			return nil
		}
		b.Set(rows(3))
		synctest.Wait()
		_, before := b.kernel.Counts()
		fail.Store(true)
		b.kernel.Remove(backend.Link{Name: "tulle.1"}.Key())
		b.Wake(backend.AllKinds)
		time.Sleep(time.Minute)
		if _, after := b.kernel.Counts(); after != before {
			t.Errorf("%d changes after a dump that failed", after-before)
		}
		fail.Store(false)
		time.Sleep(time.Minute)
		if got := b.kernel.Rows(); !maps.Equal(got, rows(3)) {
			t.Errorf("after dumps work again the kernel has %v", got)
		}
	})
}

func TestPeriodicLook(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Set(rows(1))
		synctest.Wait()
		b.take()
		b.kernel.Remove(backend.Link{Name: "tulle.1"}.Key())
		time.Sleep(7 * time.Minute)
		if got := b.kernel.Rows(); !maps.Equal(got, rows(1)) {
			t.Errorf("nobody woke it, and the kernel has %v", got)
		}
		if got := whys(b.take()); !slices.Contains(got, backend.WhyTimer) {
			t.Errorf("passes = %v, want a periodic one", got)
		}
	})
}

func TestLookTellsTheDifference(t *testing.T) {
	work(t, func(t *testing.T, b *bench) {
		b.Set(rows(2))
		synctest.Wait()
		b.kernel.Remove(backend.Neigh{Dev: "tulle.1", IP: netip.MustParseAddr("10.244.1.0")}.Key())
		want, have, err := b.Look(t.Context())
		if diff := backend.Diff(want, have); err != nil || len(diff) != 1 {
			t.Errorf("Look: difference %v, %v, want the neighbour", diff, err)
		}
	})
}
