package etcd

import (
	"context"
	"errors"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Renewal is how often a node renews a lease that lasts for ttl. That is more
// often than it must be: how long ago it was tells whether the node lives.
func Renewal(ttl time.Duration) time.Duration { return min(ttl/3, time.Minute) }

// renew renews our lease as long as it is there, and returns nil when it is gone,
// or when somebody has to look.
func (s *Store) renew(ctx context.Context, h held) error {
	if h.etcd == 0 { // a reservation needs no renewal, but its key may be deleted
		_, err := s.untilLost(ctx, nil)
		return err
	}
	for wait := tryFirst; ; wait = min(2*wait, tryMost) {
		began := time.Now()
		lost, err := s.renewByStream(ctx, h)
		switch {
		case lost || ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(explain(err), errNoAnswer):
			return s.pause(ctx) // a look at the lease tells what is wrong
		}
		// The client itself connects again, and says so.
		if time.Since(began) > requestTimeout {
			wait = tryFirst
		}
		if lost, err := s.untilLost(ctx, time.After(wait)); lost || err != nil {
			return err
		}
	}
}

// renewByStream renews our lease by one stream of requests. It returns whether the
// lease is gone, or why the stream has ended.
//
// It is KeepAlive of the client that asks more often than after a third of the
// time. KeepAliveOnce opens a stream for each request, for which etcd looks at
// the password each time.
func (s *Store) renewByStream(ctx context.Context, h held) (lost bool, err error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := etcdserverpb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return false, err
	}
	tick := time.NewTicker(Renewal(h.ttl))
	defer tick.Stop()
	for {
		late := time.AfterFunc(patientTimeout, cancel)
		asked := time.Now() // the lease lasts from some moment after that
		err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(h.etcd)})
		var answer *etcdserverpb.LeaseKeepAliveResponse
		if err == nil || errors.Is(err, io.EOF) { // which only Recv gives the cause of
			answer, err = stream.Recv()
		}
		switch {
		case !late.Stop():
			return false, rpctypes.ErrTimeout
		case err != nil:
			return false, err
		case answer.TTL <= 0:
			return true, nil
		}
		s.setAlive(asked)
		if lost, err := s.untilLost(ctx, tick.C); lost || err != nil {
			return lost, err
		}
	}
}

// untilLost returns whether our lease is not as it should be, as soon as that is
// known, or false when it is time.
func (s *Store) untilLost(ctx context.Context, until <-chan time.Time) (lost bool, err error) {
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-s.lost:
		return true, nil
	case <-until:
		return false, nil
	}
}
