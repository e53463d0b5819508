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
// returns ErrTaken when another node overwrites our lease.
func (s *Store) Watch(ctx context.Context, emit func(subnet.Snapshot)) error {
	for {
		v, err := s.begin(ctx)
		if err != nil {
			return err
		}
		emit(v.snapshot())
		err = s.follow(ctx, v, emit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrTaken):
			return err
		}
		s.log.Info("watch of the leases ended; reading all again", zap.Error(err))
		select { // not to spin where etcd closes every watch
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryFirst):
		}
	}
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
	for answer := range changes {
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
	return errors.New("closed")
}

func takenBy(ours, theirs subnet.Lease) error {
	return fmt.Errorf("our lease %s was overwritten (%w) by %q at %v: two nodes have the same name or public address; "+
		"give each its own --node-name and --public-ip", ours, ErrTaken, theirs.Node, theirs.Addrs)
}
