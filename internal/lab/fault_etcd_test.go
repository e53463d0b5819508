package lab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaultsOfEtcd does to etcd what may happen to it. In none of it a pod
// notices.
func TestFaultsOfEtcd(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 3, Pods: 1})
	v := newVictim(t, l)
	var right, keys []string
	for _, h := range l.Nodes() {
		right, keys = append(right, rows(t.Context(), h)), append(keys, leaseKey(t, h))
	}
	wantUntouched := func(t *testing.T) {
		t.Helper()
		for i, h := range l.Nodes() {
			if err := rowsAre(t, h, right[i])(); err != nil {
				t.Error(err)
			}
			if key := leaseKey(t, h); key != keys[i] {
				t.Errorf("%s has subnet %s, want %s", h.Name, key, keys[i])
			}
		}
	}
	// A change that all nodes must hear of shows that they follow etcd.
	wantFollowed := func(t *testing.T) {
		t.Helper()
		const stranger = "10.244.250.0-24"
		begin := time.Now()
		l.put(t, subnetsDir+stranger, strangerLease("192.0.2.250", stray))
		for _, h := range l.Nodes() {
			heals(t, hasRoute(t, h, "10.244.250.0/24"))
		}
		t.Logf("a new peer was heard of after %s", time.Since(begin).Round(time.Millisecond))
		l.del(t, subnetsDir+stranger)
		for i, h := range l.Nodes() {
			heals(t, rowsAre(t, h, right[i]))
		}
	}
	changes := v.journal(t)

	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		t.Run("stopped with "+unix.SignalName(signal)+" and back", func(t *testing.T) {
			log, probe := v.journal(t), v.probe(t)
			if err := l.StopEtcd(t.Context(), signal); err != nil {
				t.Fatal(err)
			}
			heals(t, log.tells(t, "no connection to etcd"))
			heals(t, etcdIs(t, v.Host, 0))
			time.Sleep(2 * time.Second)
			if err := l.StartEtcd(t.Context()); err != nil {
				t.Fatal(err)
			}
			took := heals(t, etcdIs(t, v.Host, 1))
			t.Logf("connected %s after etcd's return", took.Round(time.Millisecond))
			wantFollowed(t)
			wantUntouched(t)
			wantNoneLost(t, probe)
			log.wantOnce(t, "no connection to etcd")
			log.wantOnce(t, "connected to etcd again")
		})
	}
	t.Run("stopped without a word and going on", func(t *testing.T) {
		log, probe := v.journal(t), v.probe(t)
		if err := l.StopEtcd(t.Context(), unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for time.Since(begin) < 25*time.Second && metric(t, v.Host, "tulle_etcd_up") == 1 {
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("noticed after %s", time.Since(begin).Round(time.Millisecond))
		if up := metric(t, v.Host, "tulle_etcd_up"); up != 0 {
			t.Errorf("tulle_etcd_up is %v after %s, want 0", up, time.Since(begin))
		}
		if err := l.StopEtcd(t.Context(), unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		took := heals(t, etcdIs(t, v.Host, 1))
		t.Logf("connected %s after etcd's return", took.Round(time.Millisecond))
		wantFollowed(t)
		wantUntouched(t)
		wantNoneLost(t, probe)
		log.wantOnce(t, "etcd gives no answer")
		log.wantOnce(t, "etcd answers again")
	})
	t.Run("cut off without a word and back", func(t *testing.T) {
		probe := v.probe(t)
		v.sh(t, "iptables -I OUTPUT -p tcp --dport 2379 -j DROP; iptables -I INPUT -p tcp --sport 2379 -j DROP")
		const stranger = "10.244.251.0-24"
		l.put(t, subnetsDir+stranger, strangerLease("192.0.2.251", "02:00:00:00:00:97"))
		time.Sleep(time.Second)
		v.sh(t, "iptables -D OUTPUT -p tcp --dport 2379 -j DROP; iptables -D INPUT -p tcp --sport 2379 -j DROP")
		took := heals(t, hasRoute(t, v.Host, "10.244.251.0/24"))
		t.Logf("right %s after etcd's return", took.Round(time.Millisecond))
		l.del(t, subnetsDir+stranger)
		heals(t, rowsAre(t, v.Host, right[0]))
		wantNoneLost(t, probe)
	})
	t.Run("emptied key by key", func(t *testing.T) {
		probe := v.probe(t)
		network, ok := l.read(t, configKey)
		if !ok {
			t.Fatal("no configuration")
		}
		l.etcd(t, "kv/deleterange", map[string][]byte{"key": []byte("/tulle/"), "range_end": []byte("/tulle0")}, nil)
		time.Sleep(time.Second)
		wantUntouched(t)
		l.put(t, configKey, string(network.Value))
		took := heals(t, leasesAre(t, l, keys))
		t.Logf("all leases back after %s", took.Round(time.Millisecond))
		wantUntouched(t)
		wantFollowed(t)
		wantNoneLost(t, probe)
	})
	t.Run("wiped and empty", func(t *testing.T) {
		log, probe := v.journal(t), v.probe(t)
		if err := errors.Join(l.StopEtcd(t.Context(), unix.SIGKILL), l.WipeEtcd(t.Context()), l.StartEtcd(t.Context())); err != nil {
			t.Fatal(err)
		}
		heals(t, etcdIs(t, v.Host, 1))
		time.Sleep(2 * time.Second) // in which nothing must be torn down
		wantUntouched(t)
		if err := l.SetNetwork(t.Context(), l.networkFlags()...); err != nil {
			t.Fatal(err)
		}
		took := heals(t, leasesAre(t, l, keys))
		t.Logf("all leases back %s after there was a network", took.Round(time.Millisecond))
		wantUntouched(t)
		wantNoneLost(t, probe)
		log.wantOnce(t, "our lease in etcd was gone or out of date and is written again")
		for _, h := range l.Nodes() {
			wantRight(t, h)
		}
		wantFollowed(t)
	})
	t.Run("wiped with another cluster's peers in it", func(t *testing.T) {
		probe := v.probe(t)
		if err := errors.Join(l.StopEtcd(t.Context(), unix.SIGKILL), l.WipeEtcd(t.Context()), l.StartEtcd(t.Context()),
			l.SetNetwork(t.Context(), l.networkFlags()...)); err != nil {
			t.Fatal(err)
		}
		took := heals(t, leasesAre(t, l, keys))
		t.Logf("all leases back after %s", took.Round(time.Millisecond))
		wantUntouched(t)
		wantFollowed(t)
		wantNoneLost(t, probe)
	})
	if size := len(changes.text(t)); size > 20_000 {
		t.Errorf("all this led to %d bytes of log:\n%s", size, changes.text(t))
	}
}

// strangerLease is the value of the lease of a node that there is not.
func strangerLease(addr, mac string) string {
	return fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":%q}}`, addr, mac)
}

// etcdIs returns what to poll for the daemon to see etcd up or not.
func etcdIs(t *testing.T, h *Host, want float64) func() error {
	return func() error {
		if up := metric(t, h, "tulle_etcd_up"); up != want {
			return fmt.Errorf("%s: tulle_etcd_up is %v, want %v", h.Name, up, want)
		}
		return nil
	}
}

// leasesAre returns what to poll for the nodes to have their leases in etcd, of
// which each runs out when its node does not renew it.
func leasesAre(t *testing.T, l *Lab, keys []string) func() error {
	return func() error {
		for i, h := range l.Nodes() {
			kv, ok := l.read(t, subnetsDir+keys[i])
			if !ok || kv.Lease == "" || !strings.Contains(string(kv.Value), fmt.Sprintf(`"Node":%q`, h.Name)) {
				return fmt.Errorf("lease %s of %s: there is %t, with etcd's lease %q and value %s", keys[i], h.Name, ok, kv.Lease, kv.Value)
			}
		}
		return nil
	}
}
