package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"tulle/subnet"
)

// Keep renews the lease that Acquire took, until ctx ends. Renewing writes no
// key, so it wakes no other node. A lease that is gone, because its key was
// deleted or because it ran out while etcd was away, is taken again with the
// same subnet. Keep returns ErrTaken if another node has that subnet by then.
func (s *Store) Keep(ctx context.Context) error {
	for {
		h := s.holding()
		if err := s.renew(ctx, h); err != nil {
			return err
		}
		again := h
		again.claim = func(n subnet.Network) (Claim, error) {
			c, err := h.claim(n)
			c.Prefer, c.Only = h.lease.Subnets, true
			return c, err
		}
		_, wrote, err := s.acquire(ctx, &again)
		if err != nil {
			return err
		}
		if wrote {
			s.log.Warn("our lease was gone from etcd and is taken again", zap.Stringer("subnet", h.lease))
		}
		s.mu.Lock()
		s.held.lease, s.held.etcd = again.lease, again.etcd
		s.mu.Unlock()
	}
}

func (s *Store) holding() held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// renew returns nil when the lease is gone.
func (s *Store) renew(ctx context.Context, h held) error {
	if h.etcd == 0 { // a reservation needs no renewal, but its key may be deleted
		return s.waitLost(ctx, nil)
	}
	renewing, cancel := context.WithCancel(ctx)
	defer cancel()
	alive, err := s.client.KeepAlive(renewing, h.etcd)
	if err != nil {
		return explain(err)
	}
	return s.waitLost(ctx, alive)
}

func (s *Store) waitLost(ctx context.Context, alive <-chan *clientv3.LeaseKeepAliveResponse) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.lost:
			return nil
		case _, ok := <-alive:
			if !ok {
				// Not to spin where etcd ends every renewal at once.
				select {
				case <-ctx.Done():
				case <-time.After(tryFirst):
				}
				return ctx.Err()
			}
		}
	}
}

// checkOwn looks for our lease in what etcd holds. It wakes Keep if the lease is
// not there, and returns ErrTaken if another node has overwritten it.
func (s *Store) checkOwn(v *view) error {
	h := s.holding()
	r, ok := v.leases.Get(h.lease.Key())
	switch {
	case h.claim == nil || ok && r.Lease == h.lease:
	case ok && (r.Node != h.lease.Node || !sharesAddr(r.Lease, h.lease)):
		return takenBy(h.lease, r.Lease)
	default:
		select {
		case s.lost <- struct{}{}:
		default: // Keep knows already
		}
	}
	return nil
}
