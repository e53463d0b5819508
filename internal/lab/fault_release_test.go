package lab

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRelease frees subnets by hand: that of a dead node at once, and that of
// one which may live not without --force.
func TestRelease(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	key := leaseKey(t, node)
	release := func(key string, flags ...string) error {
		_, err := l.EtcdHosts()[0].Exec(t.Context(), append([]string{"tullectl", "lease", "release", key}, flags...)...)
		return err
	}
	wantRefused := func(key, because string) {
		t.Helper()
		if err := release(key); err == nil || !strings.Contains(err.Error(), because) {
			t.Errorf("releasing %s gives %v, want an error with %q", key, err, because)
		}
		if _, ok := l.read(t, subnetsDir+key); !ok {
			t.Errorf("%s is gone", key)
		}
	}

	wantRefused(key, "so its host is alive")
	const ttl = 24 * time.Second // renewed every 8 s
	if err := node.RestartDaemon(t.Context(), unix.SIGTERM, "--lease-ttl="+ttl.String()); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < ttl*2/3; time.Sleep(time.Second) {
		wantRefused(key, "so its host is alive") // at whatever time of its renewals
	}
	stopDaemon(t, node, unix.SIGKILL)
	wantRefused(key, "so its host is alive") // as far as can be known
	took := healsWithin(t, ttl, func() error { return release(key) })
	t.Logf("a dead node's lease of %s was released after %s", ttl, took.Round(time.Millisecond))
	if _, ok := l.read(t, subnetsDir+key); ok {
		t.Errorf("%s is still there", key)
	}

	const reserved, flannels = "10.244.77.0-24", "10.244.78.0-24"
	l.put(t, subnetsDir+reserved, strangerLease("192.0.2.77", stray))
	wantRefused(reserved, "is a reservation")
	var granted struct{ ID string }
	l.etcd(t, "lease/grant", map[string]int{"TTL": 3600}, &granted)
	l.etcd(t, "kv/put", keyValue{Key: []byte(subnetsDir + flannels), Value: []byte(strangerLease("192.0.2.78", stray)), Lease: granted.ID}, nil)
	wantRefused(flannels, "is flannel's")
	if err := errors.Join(release(reserved, "--force"), release(flannels, "--force")); err != nil {
		t.Error(err)
	}
	for _, key := range []string{reserved, flannels} {
		if _, ok := l.read(t, subnetsDir+key); ok {
			t.Errorf("%s is still there", key)
		}
	}
}
