package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"tulle/subnet"
)

// view is what etcd holds at one revision, as far as it concerns us.
type view struct {
	cluster   uint64 // which etcd it is from
	term      uint64 // of that, which grows with each election of a leader
	rev       int64
	configRev int64 // of the last change of the configuration; 0 while there is none
	network   subnet.Network
	noNetwork error
	leases    subnet.Leases
	faults    map[string]error // by key
	told      bool             // faults is part of a snapshot, and not to be changed
}

// read reads everything in one request, however many leases there are.
func (s *Store) read(ctx context.Context) (*view, error) {
	var answer *clientv3.TxnResponse
	err := s.untilAnswered(ctx, "read the network and its leases", func(ctx context.Context) (err error) {
		answer, err = s.client.Txn(ctx).Then(
			clientv3.OpGet(s.configKey()),
			clientv3.OpGet(s.subnetsDir(), clientv3.WithPrefix()),
		).Commit()
		return err
	})
	if err != nil {
		return nil, err
	}
	v := &view{cluster: answer.Header.ClusterId, term: answer.Header.RaftTerm, rev: answer.Header.Revision}
	s.noConfig(v) // unless there is one
	var records []subnet.Record
	for _, r := range answer.Responses {
		records = slices.Grow(records, len(r.GetResponseRange().Kvs))
		for _, kv := range r.GetResponseRange().Kvs {
			if record, ok := s.put(v, kv); ok {
				records = append(records, record)
			}
		}
	}
	v.leases = subnet.NewLeases(records)
	return v, nil
}

// noConfig notes that there is no configuration.
func (s *Store) noConfig(v *view) {
	v.network, v.configRev = subnet.Network{}, 0
	v.noNetwork = fmt.Errorf("%w at %s; put one there, for example with `tullectl network set --network 10.244.0.0/16`", ErrNoNetwork, s.configKey())
}

// put notes a key's value, but for a lease, which it returns.
func (s *Store) put(v *view, kv *mvccpb.KeyValue) (r subnet.Record, isLease bool) {
	if string(kv.Key) == s.configKey() {
		v.configRev = kv.ModRevision
		v.network, v.noNetwork = subnet.ParseNetwork(kv.Value)
		if v.noNetwork != nil {
			v.noNetwork = fmt.Errorf("the network at %s is not valid; correct it with `tullectl network set`: %w", s.configKey(), v.noNetwork)
		}
		return r, false
	}
	key, ok := strings.CutPrefix(string(kv.Key), s.subnetsDir())
	if !ok {
		return r, false // not ours
	}
	lease, err := subnet.ParseLease(key, kv.Value)
	v.setFault(key, err)
	return subnet.Record{Lease: lease, Created: kv.CreateRevision, Modified: kv.ModRevision, ID: kv.Lease}, err == nil
}

// faultName is what a key that is no lease is known by: the key itself, unless it can't
// be told to people as it is.
func faultName(key string) string {
	const most = 64
	if len(key) <= 2*most && !strings.ContainsFunc(key, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return key
	}
	sum := sha256.Sum256([]byte(key)) // tells it from others that begin alike
	return fmt.Sprintf("%.*q (%d bytes, SHA-256 %x...)", most/4, key, len(key), sum[:8])
}

// setFault notes why a key is no lease, or with nil that it is one or is gone.
func (v *view) setFault(key string, err error) {
	key = faultName(key)
	if _, was := v.faults[key]; err == nil && !was {
		return
	}
	if v.told {
		v.faults, v.told = maps.Clone(v.faults), false
	}
	if err == nil {
		delete(v.faults, key)
		return
	}
	if v.faults == nil {
		v.faults = map[string]error{}
	}
	v.faults[key] = err
}

// apply notes what an event says.
func (s *Store) apply(v *view, e *clientv3.Event) {
	if e.Type == mvccpb.Event_PUT {
		if r, ok := s.put(v, e.Kv); ok {
			v.leases = v.leases.With(r)
			return
		}
	}
	if key, ok := strings.CutPrefix(string(e.Kv.Key), s.subnetsDir()); ok {
		v.leases = v.leases.Without(key) // gone, or no lease any more
	}
	if e.Type != mvccpb.Event_DELETE {
		return
	}
	if string(e.Kv.Key) == s.configKey() {
		s.noConfig(v)
	}
	if key, ok := strings.CutPrefix(string(e.Kv.Key), s.subnetsDir()); ok {
		v.setFault(key, nil)
	}
}

// wrote notes the lease that we put.
func (v *view) wrote(c choice, h *held) {
	r := subnet.Record{Lease: c.lease, Created: h.rev, Modified: h.rev, ID: int64(h.etcd)}
	switch {
	case c.old.Created == 0:
	case c.old.Subnets == c.lease.Subnets:
		r.Created = c.old.Created
	default:
		v.leases = v.leases.Without(c.old.Key())
	}
	v.leases = v.leases.With(r)
}

// ErrNoNetwork says that nobody has written a network configuration yet.
var ErrNoNetwork = errors.New("no network")

// snapshot is the view as others may keep it.
func (v *view) snapshot() subnet.Snapshot {
	v.told = true
	return subnet.Snapshot{Rev: v.rev, Network: v.network, NetworkErr: v.noNetwork, Leases: v.leases, Faults: v.faults}
}

// taken is all leases, and the keys that have the form of a lease and a value
// that makes no sense: their subnets are not free either.
func (v *view) taken() []subnet.Lease {
	leases := make([]subnet.Lease, 0, v.leases.Len()+len(v.faults))
	for r := range v.leases.All() {
		leases = append(leases, r.Lease)
	}
	for key := range v.faults {
		if subnets, err := subnet.ParseKey(key); err == nil {
			leases = append(leases, subnet.Lease{Subnets: subnets})
		}
	}
	return leases
}

// find returns the oldest lease for which ok holds.
func (v *view) find(ok func(subnet.Lease) bool) (found subnet.Record, some bool) {
	for r := range v.leases.All() {
		if ok(r.Lease) && (!some || subnet.Older(r, found) < 0) {
			found, some = r, true
		}
	}
	return found, some
}
