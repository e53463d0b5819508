package etcd

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

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

// A key that can't be told as it is has a name that can, and is known by that.
func TestGarbageKeysAreNamed(t *testing.T) {
	t.Parallel()
	s, v := &Store{config: Config{Prefix: "/p"}}, &view{}
	long := strings.Repeat("x", 1<<20)
	keys := []string{"short", long, long + "y", "\x1b[2J", "\xff", "\xfe"}
	event := func(kind mvccpb.Event_EventType, key string) {
		s.apply(v, &clientv3.Event{Type: kind, Kv: &mvccpb.KeyValue{Key: []byte("/p/subnets/" + key)}})
	}
	for _, key := range keys {
		event(mvccpb.Event_PUT, key)
	}
	if len(v.faults) != len(keys) || v.faults["short"] == nil {
		t.Errorf("%d keys are named, want each of %d, and a short one as it is", len(v.faults), len(keys))
	}
	for name := range v.faults {
		if len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a key is named %.200q", name)
		}
	}
	for _, key := range keys {
		event(mvccpb.Event_DELETE, key)
	}
	if len(v.faults) > 0 {
		t.Errorf("%d keys are named that are gone", len(v.faults))
	}
}
