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

// held is our lease and how etcd keeps it.
type held struct {
	claim func(subnet.Network) (Claim, error)
	lease subnet.Lease
	etcd  clientv3.LeaseID // 0: a reservation
	ttl   time.Duration
	rev   int64 // at which we wrote it, or found it as it should be
}

// Acquire takes this node's lease, for ttl and then as long as Keep runs. It
// waits until there is a network to claim a subnet of, and calls claim with
// it; claim's error ends the wait. It writes nothing where the lease is there
// from before and is as it should be.
//
// The errors are those of claim, ErrTaken, ErrRefused and subnet.ErrFull.
func (s *Store) Acquire(ctx context.Context, ttl time.Duration, claim func(subnet.Network) (Claim, error)) (subnet.Lease, error) {
	h := held{claim: claim, ttl: ttl}
	v, _, err := s.acquire(ctx, &h)
	if err != nil {
		return subnet.Lease{}, err
	}
	s.mu.Lock()
	s.held, s.seen, s.alive = h, v, time.Now()
	s.mu.Unlock()
	return h.lease, nil
}

// acquire takes the lease of h and completes it. The view is from before that, but
// knows of what was written: etcd tells a watch of it up to a tenth of a second
// later, for which a start need not wait.
func (s *Store) acquire(ctx context.Context, h *held) (v *view, wrote bool, err error) {
	var fresh clientv3.LeaseID // granted for a try that lost a race, and good for the next
	before := h.lease.Key()
	for {
		if v, err = s.readNetwork(ctx, before); err != nil {
			return nil, false, err
		}
		c, err := h.claim(v.network)
		if err != nil {
			return nil, false, err
		}
		chosen, err := choose(v, c)
		if err != nil {
			return nil, false, err
		}
		h.lease = chosen.lease
		if h.etcd, err = s.lifetime(ctx, chosen, h.ttl, &fresh); err != nil {
			return nil, false, err
		}
		if chosen.old.Lease == chosen.lease && clientv3.LeaseID(chosen.old.ID) == h.etcd {
			h.rev = chosen.old.Modified
			return v, false, nil // as it should be
		}
		s.mu.Lock()
		s.next = chosen.lease // so that Watch knows it for ours, if it hears of it first
		s.mu.Unlock()
		won, err := s.write(ctx, v, chosen, h)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			fresh = 0 // it ran out just now
			if err := s.pause(ctx); err != nil {
				return nil, false, err
			}
			continue
		}
		if won {
			s.log.Info("lease taken", zap.Stringer("subnet", chosen.lease), zap.Bool("reservation", h.etcd == 0))
			v.wrote(chosen, h)
		}
		if err != nil || won {
			return v, won, err
		}
		// Somebody was faster, or changed the network: look again.
	}
}

// lifetime is the etcd lease that our key should have: the one it has, if that
// is alive and of the right length, none if the key is a reservation, or a new
// one.
func (s *Store) lifetime(ctx context.Context, c choice, ttl time.Duration, fresh *clientv3.LeaseID) (clientv3.LeaseID, error) {
	if c.old.Created != 0 && c.old.Overlaps(c.lease) {
		if c.old.ID == 0 {
			return 0, nil
		}
		var left *clientv3.LeaseTimeToLiveResponse
		err := s.untilAnswered(ctx, "look at our lease", func(ctx context.Context) (err error) {
			left, err = s.client.TimeToLive(ctx, clientv3.LeaseID(c.old.ID))
			return err
		})
		if err != nil {
			return 0, err
		}
		if left.TTL > 0 && left.GrantedTTL == seconds(ttl) {
			return clientv3.LeaseID(c.old.ID), nil
		}
	}
	if *fresh != 0 {
		return *fresh, nil
	}
	err := s.untilAnswered(ctx, "grant a lease", func(ctx context.Context) error {
		granted, err := s.client.Grant(ctx, seconds(ttl))
		if err == nil {
			*fresh = granted.ID
		}
		return err
	})
	return *fresh, err
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// write puts the lease, unless the key or the network has changed since v.
func (s *Store) write(ctx context.Context, v *view, c choice, h *held) (won bool, err error) {
	key := s.leaseKey(c.lease.Key())
	modified := int64(0) // a key that is not there
	do := []clientv3.Op{clientv3.OpPut(key, c.lease.Value(), clientv3.WithLease(h.etcd))}
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.configKey()), "=", v.configRev)}
	if c.old.Created != 0 && c.old.Subnets == c.lease.Subnets {
		modified = c.old.Modified
	} else if c.old.Created != 0 { // ours from a former network, with which not all fits
		old := s.leaseKey(c.old.Key())
		do = append(do, clientv3.OpDelete(old))
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(old), "=", c.old.Modified))
	}
	unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(key), "=", modified))
	err = s.untilAnswered(ctx, fmt.Sprintf("write the lease %s", c.lease), func(ctx context.Context) error {
		answer, err := s.client.Txn(ctx).If(unchanged...).Then(do...).Commit()
		if won = err == nil && answer.Succeeded; won {
			h.rev = answer.Header.Revision
		}
		return err
	})
	return won, err
}

// readNetwork reads until there is a valid network, and says what it waits for. A
// lease that is held already and still there can do without.
func (s *Store) readNetwork(ctx context.Context, before string) (*view, error) {
	told := ""
	for {
		v, err := s.read(ctx)
		if err != nil || v.noNetwork == nil {
			return v, err
		}
		if _, there := v.leases.Get(before); there {
			return v, nil
		}
		if told != v.noNetwork.Error() {
			told = v.noNetwork.Error()
			s.log.Warn("waiting for a network", zap.Error(v.noNetwork))
		}
		if err := s.changed(ctx, s.configKey(), v.rev); err != nil {
			return nil, err
		}
	}
}

// changed returns when a key has changed after rev, or when it can't be said: an
// etcd behind another connection may be another, which comes to rev much later.
func (s *Store) changed(ctx context.Context, key string, rev int64) error {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	select {
	case answer, ok := <-s.client.Watch(watching, key, clientv3.WithRev(rev+1)):
		if !ok || answer.Err() != nil {
			return s.pause(ctx)
		}
	case <-s.dropped:
	}
	return ctx.Err()
}
