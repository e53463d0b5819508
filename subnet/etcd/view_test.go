package etcd

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Very many keys are garbage. A cost that grew with the square of their number would
// take this test minutes. What was told of them before does not change.
func TestManyGarbageKeys(t *testing.T) {
	t.Parallel()
	const many = 100_000
	s, v := &Store{config: Config{Prefix: "/p"}}, &view{}
	event := func(kind mvccpb.Event_EventType, i int) *clientv3.Event {
		return &clientv3.Event{Type: kind, Kv: &mvccpb.KeyValue{Key: fmt.Appendf(nil, "/p/subnets/bad%d", i)}}
	}
	for i := range many {
		s.apply(v, event(mvccpb.Event_PUT, i))
	}
	told := v.snapshot()
	for i := range many / 2 {
		s.apply(v, event(mvccpb.Event_DELETE, i))
	}
	if now := v.snapshot(); len(told.Faults) != many || len(now.Faults) != many/2 {
		t.Errorf("%d keys were told to be garbage, and then %d; want %d and %d", len(told.Faults), len(now.Faults), many, many/2)
	}
}
