package etcd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A day without etcd, in time that passes at once: each fault is told once, however
// often it is tried, and the return once.
func TestADayAwayIsToldOnce(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	for _, tt := range []struct {
		name  string
		tries []func(context.Context) error // by turns
		lines int
	}{
		{"silent", []func(context.Context) error{silent}, 1},
		{"refuses connections", []func(context.Context) error{fails(rpctypes.ErrNoLeader)}, 1},
		{"one fault after another", []func(context.Context) error{silent, fails(rpctypes.ErrNoSpace), fails(rpctypes.ErrTimeout), fails(rpctypes.ErrNoSpace)}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				s := &Store{log: zap.New(core)} // no endpoint: nothing to look for the cause at
				const day = 24 * time.Hour
				begin, tries := time.Now(), 0
				err := s.untilAnswered(t.Context(), "ask", func(ctx context.Context) error {
					if time.Since(begin) > day {
						return nil
					}
					tries++
					return tt.tries[tries%len(tt.tries)](ctx)
				})
				if err != nil {
					t.Fatal(err)
				}
				// Right again soon after etcd is back, and not too many requests before.
				if most := int(day / tryMost); tries < int(day/(tryMost*5/4+patientTimeout)) || tries > 2*most {
					t.Errorf("tried %d times in a day, want about %d at most", tries, most)
				}
				if got := logs.FilterMessageSnippet("etcd gives no answer").Len(); got != tt.lines {
					t.Errorf("told %d times, want %d: %v", got, tt.lines, logs.All())
				}
				if logs.FilterMessage("etcd answers again").Len() != 1 || logs.Len() != tt.lines+1 {
					t.Errorf("want one line of its return, and no other: %v", logs.All())
				}
			})
		})
	}
}

// Something closes each watch at once, for a day.
func TestRestartsOfTheWatchAreSparse(t *testing.T) {
	t.Parallel()
	var r restarts
	begin := time.Now()
	told, all := 0, 0
	for now := begin; now.Sub(begin) < 24*time.Hour; now = now.Add(r.pause(10 * time.Millisecond)) {
		all++
		if r.tell(now) {
			told++
		}
	}
	if most := int(24 * time.Hour / tellMost); told > most {
		t.Errorf("told %d times in a day, want %d at most", told, most)
	}
	if most := int(24*time.Hour/tryMost) + 10; all > most {
		t.Errorf("%d restarts in a day, want %d at most", all, most)
	}
	if got := r.pause(time.Hour); got != tryFirst {
		t.Errorf("after a watch that went well the pause is %s, want %s", got, tryFirst)
	}
	var fresh restarts
	if got := fresh.pause(0); got != tryFirst || !fresh.tell(begin) {
		t.Errorf("the first restart waits %s or is not told, want %s", got, tryFirst)
	}
}

// The three faults of etcd that may pass are told apart, so that each is told.
func TestFaultsAreToldApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ err, want error }{
		{context.DeadlineExceeded, errNoAnswer},
		{rpctypes.ErrNoLeader, errNoAnswer},
		{rpctypes.ErrNoSpace, errTrouble},
		{rpctypes.ErrNotLeader, errTrouble},
		{rpctypes.ErrAuthOldRevision, errTrouble},
		{status.Error(codes.Unimplemented, "unexpected HTTP status code received from server: 404 (Not Found)"), errTrouble}, // of a proxy
		{status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL"), errTrouble},
		{rpctypes.ErrLeaseNotFound, nil},
		{rpctypes.ErrLeaseTTLTooLarge, nil},
		{rpctypes.ErrAuthFailed, ErrRefused},
		{rpctypes.ErrPermissionDenied, ErrRefused},
	} {
		if got := faultOf(explain(tt.err)); got != tt.want {
			t.Errorf("the fault of %v is %v, want %v", tt.err, got, tt.want)
		}
	}
}
