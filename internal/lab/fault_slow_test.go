package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlowEtcd lets every answer of etcd take its time on the way to one node.
func TestSlowEtcd(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	right, key := rows(t.Context(), v.Host), leaseKey(t, v.Host)
	const endpoint, stranger = "127.0.0.1:23790", subnetsDir + "10.244.250.0-24"
	way := newSlowWay(t, v.Host, endpoint, strings.TrimPrefix(l.EtcdURL(), "http://"))
	follow := func(t *testing.T) {
		t.Helper()
		l.put(t, stranger, strangerLease("192.0.2.250", stray))
		took := healsWithin(t, 2*healTime, hasRoute(t, v.Host, "10.244.250.0/24"))
		t.Logf("a new peer was heard of after %s", took.Round(time.Millisecond))
		l.del(t, stranger)
		healsWithin(t, 2*healTime, rowsAre(t, v.Host, right))
	}

	start := func(t *testing.T) {
		t.Helper()
		begin := time.Now()
		if _, err := v.Keep(t.Context(), StartArgs{Name: daemonName, Args: []string{"tulled", "--etcd-endpoints=http://" + endpoint}}); err != nil {
			t.Fatal(err)
		}
		if err := v.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	}

	t.Run("each answer comes late", func(t *testing.T) {
		way.delay.Store(int64(3 * time.Second))
		stopDaemon(t, v.Host, unix.SIGTERM)
		v.sh(t, "rm "+daemonMemory) // a start that needs etcd
		log, probe := v.journal(t), v.probe(t)
		before := l.requests(t, nil)
		start(t)
		follow(t)
		if n := l.requests(t, nil) - before; n > 20 {
			t.Errorf("etcd had %v requests for a start, want few", n)
		}

		before = l.requests(t, nil)
		time.Sleep(5 * time.Second)
		if n := l.requests(t, nil) - before; n > 2 {
			t.Errorf("etcd had %v requests within 5 s in which nothing happened", n)
		}
		healsWithin(t, 2*healTime, etcdIs(t, v.Host, 1))

		if err := rowsAre(t, v.Host, right)(); err != nil {
			t.Error(err)
		}
		wantNoneLost(t, probe)

		l.del(t, subnetsDir+key)
		took := healsWithin(t, 4*healTime, func() error {
			if kv, ok := l.read(t, subnetsDir+key); !ok || kv.Lease == "" {
				return fmt.Errorf("the lease %s is not back", key)
			}
			return nil
		})
		t.Logf("its lease was taken again after %s", took.Round(time.Millisecond))
		for _, words := range []string{"etcd gives no answer", "etcd answers again"} {
			log.wantOnce(t, words)
		}
		if n := log.count(t, "\n"); n > 20 {
			t.Errorf("%d lines of log, want few:\n%s", n, log.text(t))
		}
		t.Logf("the log of it:\n%s", log.text(t))
	})
	t.Run("slow from one moment to the next, and fast again", func(t *testing.T) {
		way.delay.Store(0)
		stopDaemon(t, v.Host, unix.SIGTERM)
		start(t)
		log, probe := v.journal(t), v.probe(t)
		for _, delay := range []time.Duration{3 * time.Second, 0} {
			way.delay.Store(int64(delay))
			follow(t)
		}
		wantNoneLost(t, probe)
		if n := log.count(t, " WARN "); n > 0 {
			t.Errorf("%d warnings, want none:\n%s", n, log.text(t))
		}
	})
}

// slowWay carries connections from inside a host, and answers late.
type slowWay struct{ delay atomic.Int64 }

// newSlowWay listens on a host for connections to a target until the test ends.
func newSlowWay(t *testing.T, h *Host, listen, target string) *slowWay {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); l.Close() })
	w := &slowWay{}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := h.Dial(ctx, "tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			stop := context.AfterFunc(ctx, func() { near.Close(); far.Close() })
			go func() {
				_, _ = io.Copy(far, near)
				far.Close()
			}()
			go func() {
				defer stop()
				w.answer(near, far)
			}()
		}
	}()
	return w
}

// answer carries what comes from far to near. What comes together stays so: the
// way is slow, not narrow.
func (w *slowWay) answer(near, far net.Conn) {
	type piece struct {
		due  time.Time
		text []byte
	}
	pieces := make(chan piece, 1<<12)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 64<<10)
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			pieces <- piece{time.Now().Add(time.Duration(w.delay.Load())), buf[:n]}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := near.Write(p.text); err != nil {
			break
		}
	}
	near.Close()
	far.Close()
}
