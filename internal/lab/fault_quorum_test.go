package lab

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaultsOfTheQuorum takes an etcd of three members its leader, or more of
// them than it can do without. No pod notices, and no node loses its lease.
func TestFaultsOfTheQuorum(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1, EtcdMembers: 3})
	v := newVictim(t, l)
	var right, keys, leases []string
	for _, h := range l.Nodes() {
		right, keys = append(right, rows(t.Context(), h)), append(keys, leaseKey(t, h))
	}
	for _, key := range keys {
		kv, _ := l.read(t, subnetsDir+key)
		leases = append(leases, kv.Lease)
	}
	// follow waits until all nodes know of a lease that is written now.
	follow := func(t *testing.T) {
		t.Helper()
		const stranger = subnetsDir + "10.244.250.0-24"
		begin := time.Now()
		l.put(t, stranger, strangerLease("192.0.2.250", stray))
		// A connection to a member that says nothing is given up after 15 s.
		for _, h := range l.Nodes() {
			healsWithin(t, 2*healTime, hasRoute(t, h, "10.244.250.0/24"))
		}
		t.Logf("a new peer was heard of after %s", time.Since(begin).Round(time.Millisecond))
		l.del(t, stranger)
		for i, h := range l.Nodes() {
			heals(t, rowsAre(t, h, right[i]))
		}
	}

	for _, test := range []struct {
		name        string
		members     int // that are taken away, the leader first
		away, again unix.Signal
	}{
		{"the leader killed", 1, unix.SIGKILL, 0},
		{"the leader stopped without a word", 1, unix.SIGSTOP, unix.SIGCONT},
		{"two of three killed", 2, unix.SIGKILL, 0},
		{"two of three stopped without a word", 2, unix.SIGSTOP, unix.SIGCONT},
	} {
		t.Run(test.name, func(t *testing.T) {
			log, probe := v.journal(t), v.probe(t)
			leader := l.leader(t)
			away := []*Host{leader}
			for _, h := range l.EtcdHosts() {
				if h != leader && len(away) < test.members {
					away = append(away, h)
				}
			}
			if err := l.StopMembers(t.Context(), test.away, away...); err != nil {
				t.Fatal(err)
			}
			if test.members == 1 {
				follow(t) // by the other two, of which one leads
			} else {
				healsWithin(t, 2*healTime, log.tells(t, "etcd gives no answer"))
				heals(t, etcdIs(t, v.Host, 0))
				before := l.requests(t, away)
				const while = 5 * time.Second
				time.Sleep(while)
				if n := l.requests(t, away) - before; n > 2*float64(len(l.Nodes()))*while.Seconds()+10 {
					t.Errorf("%v requests within %s in which etcd can answer none", n, while)
				}
			}
			again := func() error { return l.StartMembers(t.Context(), away...) }
			if test.again != 0 {
				again = func() error { return l.StopMembers(t.Context(), test.again, away...) }
			}
			if err := again(); err != nil {
				t.Fatal(err)
			}
			heals(t, etcdIs(t, v.Host, 1))
			follow(t)
			for i, h := range l.Nodes() {
				if err := rowsAre(t, h, right[i])(); err != nil {
					t.Error(err)
				}
				wantRight(t, h)
				if kv, ok := l.read(t, subnetsDir+keys[i]); !ok || kv.Lease != leases[i] {
					t.Errorf("%s: the lease %s is there: %t, and runs out with etcd's lease %s, want it as before, with %s", h.Name, keys[i], ok, kv.Lease, leases[i])
				}
			}
			wantNoneLost(t, probe)
			if n := log.count(t, "\n"); n > 16 {
				t.Errorf("%d lines of log, want few:\n%s", n, log.text(t))
			}
			t.Logf("the log of it:\n%s", log.text(t))
		})
	}
}

// leader is the host whose member of etcd leads.
func (l *Lab) leader(t *testing.T) *Host {
	t.Helper()
	var leader *Host
	heals(t, func() error {
		for _, h := range l.EtcdHosts() {
			var status struct {
				Header struct {
					ID string `json:"member_id"`
				} `json:"header"`
				Leader string `json:"leader"`
			}
			if err := h.member(t.Context(), "maintenance/status", struct{}{}, &status); err != nil {
				return err
			}
			if status.Leader == status.Header.ID {
				leader = h
			}
		}
		if leader == nil {
			return errors.New("no member of etcd leads")
		}
		return nil
	})
	return leader
}

// requests is how many gRPC calls the members have begun that are not away.
func (l *Lab) requests(t *testing.T, away []*Host) float64 {
	t.Helper()
	sum := 0.0
	for _, h := range l.EtcdHosts() {
		if slices.Contains(away, h) {
			continue
		}
		text, err := get(t.Context(), h.Client(), h.etcdURL(etcdPort)+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		sum += sumOf(t, string(text), "grpc_server_started_total")
	}
	return sum
}
