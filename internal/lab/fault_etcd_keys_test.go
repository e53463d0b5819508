package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"tulle/subnet"
)

// The keys of a lab's network.
const (
	configKey  = "/tulle/network/config"
	subnetsDir = "/tulle/network/subnets/"
)

// keyValue is a key of etcd in the words of its JSON gateway.
type keyValue struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value,omitempty"`
	Lease string `json:"lease,omitempty"`
}

// etcd calls the JSON gateway of etcd's members, one after the other until one
// answers.
func (l *Lab) etcd(t *testing.T, call string, request, answer any) {
	t.Helper()
	heals(t, func() error {
		var errs []error
		for _, h := range l.EtcdHosts() {
			err := h.member(t.Context(), call, request, answer)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// member calls the JSON gateway of the member of etcd on a host.
func (h *Host) member(ctx context.Context, call string, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.etcdURL(etcdPort)+"/v3/"+call, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := h.Client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		return fmt.Errorf("etcd on %s: %s: %w", h.Name, call, err)
	}
	return nil
}

// put writes a key without a lease of etcd's.
func (l *Lab) put(t *testing.T, key, value string) {
	t.Helper()
	l.etcd(t, "kv/put", keyValue{Key: []byte(key), Value: []byte(value)}, nil)
}

func (l *Lab) del(t *testing.T, key string) {
	t.Helper()
	l.etcd(t, "kv/deleterange", keyValue{Key: []byte(key)}, nil)
}

// read returns a key, and whether it is there.
func (l *Lab) read(t *testing.T, key string) (keyValue, bool) {
	t.Helper()
	var answer struct{ Kvs []keyValue }
	l.etcd(t, "kv/range", keyValue{Key: []byte(key)}, &answer)
	if len(answer.Kvs) == 0 {
		return keyValue{}, false
	}
	return answer.Kvs[0], true
}

// leaseKey is the key of a node's lease, by its subnet file.
func leaseKey(t *testing.T, h *Host) string {
	t.Helper()
	file, err := h.Subnet()
	if err != nil {
		t.Fatal(err)
	}
	var l subnet.Lease
	for f, bridge := range file.Subnets {
		if bridge.IsValid() {
			l.Subnets[f] = bridge.Masked()
		}
	}
	return l.Key()
}

// lease is a node's lease in etcd.
func (l *Lab) lease(t *testing.T, h *Host) subnet.Lease {
	t.Helper()
	key := leaseKey(t, h)
	kv, ok := l.read(t, subnetsDir+key)
	if !ok {
		t.Fatalf("%s: etcd has no lease %s", h.Name, key)
	}
	lease, err := subnet.ParseLease(key, kv.Value)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}
