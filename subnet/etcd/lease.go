package etcd

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"tulle/subnet"
)

// ErrChanged says that a key was changed by somebody else in the meantime.
var ErrChanged = errors.New("changed by somebody else in the meantime; look again")

// Reserve makes a node's lease one that does not run out, or makes such a lease
// for a node that has none yet and will find it by its name or public address.
func (s *Store) Reserve(ctx context.Context, l subnet.Lease) error {
	v, err := s.read(ctx)
	if err != nil {
		return err
	}
	switch {
	case v.noNetwork != nil:
		return v.noNetwork
	case !v.network.Contains(l):
		return fmt.Errorf("%s is outside of the network", l)
	}
	there, ok := v.leases.Get(l.Key())
	if ok {
		l = there.Lease // its node goes on with what it announces
	} else if err := mayReserve(v, l); err != nil {
		return err
	}
	return s.txn(ctx, "reserve "+l.String(), l.Key(), there.Modified, clientv3.OpPut(s.leaseKey(l.Key()), l.Value()))
}

// mayReserve returns an error if a lease can't be reserved for a node that has none
// yet, or keeps another node from its own.
func mayReserve(v *view, l subnet.Lease) error {
	if other, taken := overlapping(v.taken(), l); taken {
		return fmt.Errorf("%s overlaps the lease %s", l, other)
	}
	if has, ok := v.find(func(r subnet.Lease) bool { return r.Node == l.Node }); ok {
		return fmt.Errorf("%s has the lease %s; release that first", l.Node, has.Lease)
	}
	if has, ok := v.find(l.SharesAddr); ok {
		return fmt.Errorf("%s is that of the lease %s", l.AddrText(), has.Lease)
	}
	for _, a := range l.Addrs {
		if a.IsValid() && v.network.Has(a) {
			return fmt.Errorf("%s is one of the pods' network, and none that nodes reach each other at", a)
		}
	}
	return nil
}

// Release deletes a lease. Its node takes another one, or the same again, if it
// is alive.
func (s *Store) Release(ctx context.Context, r subnet.Record) error {
	return s.txn(ctx, "release "+r.String(), r.Key(), r.Modified, clientv3.OpDelete(s.leaseKey(r.Key())))
}

// Left is how many seconds a lease has left before it runs out, and how many it
// was granted for. A reservation has none of both.
func (s *Store) Left(ctx context.Context, r subnet.Record) (left, granted int64, err error) {
	if r.ID == 0 {
		return 0, 0, nil
	}
	err = s.request(ctx, requestTimeout, "look at "+r.String(), func(ctx context.Context) error {
		answer, err := s.client.TimeToLive(ctx, clientv3.LeaseID(r.ID))
		if err == nil {
			left, granted = max(0, answer.TTL), answer.GrantedTTL
		}
		return err
	})
	return left, granted, err
}

// txn makes a change of a key that has not changed since a revision.
func (s *Store) txn(ctx context.Context, what, key string, modified int64, do clientv3.Op) error {
	return s.request(ctx, requestTimeout, what, func(ctx context.Context) error {
		answer, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.leaseKey(key)), "=", modified)).Then(do).Commit()
		if err == nil && !answer.Succeeded {
			return ErrChanged
		}
		return err
	})
}
