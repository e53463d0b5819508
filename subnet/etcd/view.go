package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"tulle/subnet"
)

// view is what etcd holds at one revision, as far as it concerns us.
type view struct {
	rev       int64
	configRev int64 // of the last change of the configuration; 0 while there is none
	network   subnet.Network
	noNetwork error
	records   map[string]record // by key below the subnets directory
	faults    map[string]error  // likewise
}

// record is a lease and how etcd keeps it.
type record struct {
	subnet.Lease
	created  int64
	modified int64
	etcd     clientv3.LeaseID // 0: a reservation, which does not run out
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
	v := &view{rev: answer.Header.Revision, records: map[string]record{}, faults: map[string]error{}}
	s.put(v, nil) // no configuration, unless there is one
	for _, r := range answer.Responses {
		for _, kv := range r.GetResponseRange().Kvs {
			s.put(v, kv)
		}
	}
	return v, nil
}

// put notes a key's new value; nil stands for the configuration's absence.
func (s *Store) put(v *view, kv *mvccpb.KeyValue) {
	if kv == nil {
		v.network, v.configRev = subnet.Network{}, 0
		v.noNetwork = fmt.Errorf("%w at %s; put one there, for example with `tullectl network set --network 10.244.0.0/16`", ErrNoNetwork, s.configKey())
		return
	}
	if string(kv.Key) == s.configKey() {
		v.configRev = kv.ModRevision
		v.network, v.noNetwork = subnet.ParseNetwork(kv.Value)
		if v.noNetwork != nil {
			v.noNetwork = fmt.Errorf("the network at %s is not valid; correct it with `tullectl network set`: %w", s.configKey(), v.noNetwork)
		}
		return
	}
	key, ok := strings.CutPrefix(string(kv.Key), s.subnetsDir())
	if !ok {
		return // not ours
	}
	delete(v.records, key)
	delete(v.faults, key)
	lease, err := subnet.ParseLease(key, kv.Value)
	if err != nil {
		v.faults[key] = err
		return
	}
	v.records[key] = record{lease, kv.CreateRevision, kv.ModRevision, clientv3.LeaseID(kv.Lease)}
}

// apply notes what an event says.
func (s *Store) apply(v *view, e *clientv3.Event) {
	if e.Type == mvccpb.Event_PUT {
		s.put(v, e.Kv)
		return
	}
	if string(e.Kv.Key) == s.configKey() {
		s.put(v, nil)
	}
	if key, ok := strings.CutPrefix(string(e.Kv.Key), s.subnetsDir()); ok {
		delete(v.records, key)
		delete(v.faults, key)
	}
}

// ErrNoNetwork says that nobody has written a network configuration yet.
var ErrNoNetwork = errors.New("no network")

// snapshot is the view as others may keep it.
func (v *view) snapshot() subnet.Snapshot {
	return subnet.Snapshot{
		Rev: v.rev, Network: v.network, NetworkErr: v.noNetwork,
		Leases: v.leases(), Faults: maps.Clone(v.faults),
	}
}

// leases is all of them in order of creation.
func (v *view) leases() []subnet.Lease {
	sorted := slices.SortedFunc(maps.Values(v.records), func(a, b record) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.Key(), b.Key()))
	})
	leases := make([]subnet.Lease, len(sorted))
	for i, r := range sorted {
		leases[i] = r.Lease
	}
	return leases
}

// taken is all leases, and the keys that have the form of a lease and a value
// that makes no sense: their subnets are not free either.
func (v *view) taken() []subnet.Lease {
	leases := v.leases()
	for key := range v.faults {
		if subnets, err := subnet.ParseKey(key); err == nil {
			leases = append(leases, subnet.Lease{Subnets: subnets})
		}
	}
	return leases
}

// find returns the earliest record for which ok holds.
func (v *view) find(ok func(record) bool) (record, bool) {
	var found record
	for _, r := range v.records {
		if ok(r) && (found.created == 0 || r.created < found.created) {
			found = r
		}
	}
	return found, found.created != 0
}
