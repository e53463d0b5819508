package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"tulle/subnet"
)

// Watch calls emit with a Snapshot of what etcd holds, and again whenever that
// changes, until ctx ends. Changes that come together may be told as one. While
// etcd is away nothing is told; when it is back, whatever it holds then. Watch
// returns ErrLost when another node overwrites our lease.
func (s *Store) Watch(ctx context.Context, emit func(subnet.Snapshot)) error {
	var again restarts
	for {
		v, err := s.begin(ctx)
		if err != nil {
			return err
		}
		emit(v.snapshot())
		began := time.Now()
		err = s.follow(ctx, v, emit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrTaken):
			return err
		}
		s.restarts.Add(1)
		now := time.Now()
		if again.tell(now) {
			s.log.Info("reading all leases again", zap.NamedError("why", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(again.pause(now.Sub(began))):
		}
	}
}

// restarts are those of a watch. Where something on the way to etcd closes each watch
// soon, as a proxy without streams does, neither etcd nor the log has much of it.
type restarts struct {
	told time.Time
	wait time.Duration
}

// tellMost is how often a restart is told, at most.
const tellMost = time.Minute

// tell reports whether a restart is to be told.
func (r *restarts) tell(now time.Time) bool {
	if !r.told.IsZero() && now.Sub(r.told) < tellMost {
		return false
	}
	r.told = now
	return true
}

// pause is how long to wait after a watch that lasted for a while: longer each time,
// until one has gone well.
func (r *restarts) pause(lasted time.Duration) time.Duration {
	if lasted > requestTimeout || r.wait == 0 {
		r.wait = tryFirst
	} else {
		r.wait = min(2*r.wait, tryMost)
	}
	return r.wait
}

// begin is where to follow from: what Acquire has seen, so that a cluster's
// leases are read once, or else what etcd holds now.
func (s *Store) begin(ctx context.Context) (*view, error) {
	s.mu.Lock()
	v := s.seen
	s.seen = nil
	s.mu.Unlock()
	if v != nil {
		return v, nil
	}
	v, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	return v, s.checkOwn(v)
}

// follow tells changes after v until the watch ends.
func (s *Store) follow(ctx context.Context, v *view, emit func(subnet.Snapshot)) error {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// The slash matters: a key that only begins like ours is none of ours.
	changes := s.client.Watch(watching, s.config.Prefix+"/", clientv3.WithPrefix(), clientv3.WithRev(v.rev+1))
	for {
		var answer clientv3.WatchResponse
		select {
		case <-s.doubt:
			if err := s.sameAs(ctx, v); err != nil {
				return err
			}
			continue
		case a, ok := <-changes:
			if !ok {
				return errors.New("the watch was closed")
			}
			answer = a
		}
		if err := answer.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return fmt.Errorf("etcd has forgotten what happened after revision %d: %w", v.rev, err)
			}
			return explain(err)
		}
		if len(answer.Events) == 0 {
			continue // a sign of life
		}
		v.rev = answer.Header.Revision
		for _, e := range answer.Events {
			s.apply(v, e)
		}
		if err := s.checkOwn(v); err != nil {
			return err
		}
		emit(v.snapshot())
	}
}

// sameAs returns an error if etcd is not the one that v was read from, or has
// gone back to an earlier time: restored from a backup, or emptied. Such an etcd
// would not tell a watch of anything until it came to the same revision, nor of
// what happened before if it is there already. Then its leader has been elected less
// often, or our lease is not the one of before.
func (s *Store) sameAs(ctx context.Context, v *view) error {
	own := s.holding().lease.Key()
	var answer *clientv3.GetResponse
	err := s.untilAnswered(ctx, "ask for the revision", func(ctx context.Context) (err error) {
		answer, err = s.client.Get(ctx, s.leaseKey(own)) // whole, for some versions of etcd leave the lease out of a key alone
		return err
	})
	if err != nil {
		return err
	}
	was, there := v.leases.Get(own)
	same := !there || len(answer.Kvs) == 1 && answer.Kvs[0].CreateRevision == was.Created && answer.Kvs[0].Lease == was.ID
	switch {
	case answer.Header.ClusterId != v.cluster:
		return fmt.Errorf("this is another etcd cluster than before: %x, not %x", answer.Header.ClusterId, v.cluster)
	case answer.Header.Revision < v.rev:
		return fmt.Errorf("etcd has gone back from revision %d to %d", v.rev, answer.Header.Revision)
	case answer.Header.RaftTerm < v.term:
		return fmt.Errorf("etcd has gone back from term %d to %d", v.term, answer.Header.RaftTerm)
	case !same:
		return errors.New("our lease is not the one of before; etcd may have been replaced")
	}
	return nil
}

func takenBy(ours, theirs subnet.Lease) error {
	return fmt.Errorf("our lease %s was overwritten (%w) by %q at %s: two nodes have the same name or public address; "+
		"give each its own --node-name and --public-ip", ours, ErrLost, theirs.Node, theirs.AddrText())
}
