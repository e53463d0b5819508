package lab

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
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

// etcd calls etcd's JSON gateway from the host that it runs on.
func (l *Lab) etcd(t *testing.T, call string, request, answer any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := l.Host("underlay").Client().Post(l.EtcdURL()+"/v3/"+call, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("etcd: %s: %s %v: %s", call, resp.Status, err, text)
	}
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
	return subnet.Lease{Subnets: [2]netip.Prefix{file.Subnets[subnet.IPv4].Masked()}}.Key()
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
