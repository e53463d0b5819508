package etcd

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tulle/subnet"
)

// Keep renews the lease that Acquire took, until ctx ends. Renewing writes no
// key, so it wakes no other node. A lease that is gone, because its key was
// deleted or because it ran out while etcd was away, is taken again with the
// same subnet, and one that is no longer what the claim says is written anew.
// Keep tells held what the lease is from then on. It returns ErrTaken if another
// node has the subnet.
func (s *Store) Keep(ctx context.Context, held func(subnet.Lease)) error {
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
		s.mu.Lock()
		s.held.lease, s.held.etcd, s.held.rev = again.lease, again.etcd, again.rev
		s.mu.Unlock()
		if wrote {
			s.log.Warn("our lease in etcd was gone or out of date and is written again", zap.Stringer("subnet", again.lease))
			held(again.lease)
		}
	}
}

// Renew has Keep ask for the claim again and write the lease if that differs.
func (s *Store) Renew() { signal(s.lost) }

// Alive returns when etcd last said that it keeps our lease, and for how long
// it does so from then. A reservation is kept for ever, which is told as 0.
func (s *Store) Alive() (at time.Time, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.etcd == 0 {
		return time.Now(), 0
	}
	return s.alive, s.held.ttl
}

func (s *Store) setAlive(at time.Time) {
	s.mu.Lock()
	s.alive = at
	s.mu.Unlock()
}

func (s *Store) holding() held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// pause is not to spin where etcd ends every renewal or watch at once.
func (s *Store) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-time.After(tryFirst):
	}
	return ctx.Err()
}

// checkOwn looks for our lease in what etcd holds. It wakes Keep if the lease is
// not there, and returns ErrLost if another node has overwritten it.
func (s *Store) checkOwn(v *view) error {
	h := s.holding()
	r, ok := v.leases.Get(h.lease.Key())
	switch {
	case h.claim == nil || ok && (r.Lease == h.lease || r.Lease == s.coming()):
	case ok && r.Modified > h.rev && (r.Node != h.lease.Node || !r.Lease.SharesAddr(h.lease)):
		return takenBy(h.lease, r.Lease)
	default:
		signal(s.lost)
	}
	return nil
}

// coming is what our lease is about to become.
func (s *Store) coming() subnet.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}
