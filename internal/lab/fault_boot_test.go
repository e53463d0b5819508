package lab

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const daemonMemory = "/var/lib/tulle/state.json"

// TestBootWithoutEtcd starts the daemon while etcd is away.
func TestBootWithoutEtcd(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 3, Pods: 1})
	v := newVictim(t, l)
	right, key := rows(t.Context(), v.Host), leaseKey(t, v.Host)
	heals(t, func() error { return remembers(v.Host, l.Nodes()) })
	if err := l.StopEtcd(t.Context(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		t.Run("restarted after "+unix.SignalName(signal), func(t *testing.T) {
			log, probe := v.journal(t), v.probe(t)
			stopDaemon(t, v.Host, signal)
			begin := time.Now()
			startReady(t, v.Host)
			t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
			if err := rowsAre(t, v.Host, right)(); err != nil {
				t.Error(err)
			}
			wantNoneLost(t, probe)
			log.wantOnce(t, "etcd does not answer; going on from the state file")
			if n := log.count(t, "kernel changed"); n > 0 {
				t.Errorf("%d changes of the kernel, want none:\n%s", n, log.text(t))
			}
			wantRight(t, v.Host)
		})
	}
	t.Run("the host booted", func(t *testing.T) {
		stopDaemon(t, v.Host, unix.SIGKILL)
		v.sh(t, "ip link del tulle.1; nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0; rm -rf /run/tulle")
		begin := time.Now()
		startReady(t, v.Host)
		t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
		withIPTables(t, v.Host)
		if err := rowsAre(t, v.Host, right)(); err != nil {
			t.Error(err)
		}
		probe := v.probe(t)
		time.Sleep(100 * time.Millisecond)
		wantNoneLost(t, probe)
		if got := leaseKey(t, v.Host); got != key {
			t.Errorf("subnet %s, want %s", got, key)
		}
	})
	t.Run("etcd comes back", func(t *testing.T) {
		log, probe := v.journal(t), v.probe(t)
		if err := l.StartEtcd(t.Context()); err != nil {
			t.Fatal(err)
		}
		took := heals(t, log.tells(t, "lease held"))
		t.Logf("lease held %s after etcd's return", took.Round(time.Millisecond))
		heals(t, rowsAre(t, v.Host, right))
		wantNoneLost(t, probe)
		wantRight(t, v.Host)
		const stranger = "10.244.250.0-24"
		l.put(t, subnetsDir+stranger, strangerLease("192.0.2.250", stray))
		heals(t, hasRoute(t, v.Host, "10.244.250.0/24"))
	})
}

// remembers looks for the leases of all nodes in a node's state file.
func remembers(h *Host, nodes []*Host) error {
	text, err := os.ReadFile(h.Path(daemonMemory))
	for _, n := range nodes {
		if err == nil && !strings.Contains(string(text), `"Node":"`+n.Name+`"`) {
			return os.ErrNotExist
		}
	}
	return err
}

// TestBootWithAnOldStateFile starts the daemon without etcd when its lease must
// have run out.
func TestBootWithAnOldStateFile(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	stopDaemon(t, node, unix.SIGTERM)
	startReady(t, node, "--lease-ttl=10s")
	key := leaseKey(t, node)
	heals(t, func() error {
		text, err := os.ReadFile(node.Path(daemonMemory))
		if err == nil && !strings.Contains(string(text), `"ttl":"10s"`) {
			return os.ErrNotExist
		}
		return err
	})
	stopDaemon(t, node, unix.SIGTERM)
	if err := l.StopEtcd(t.Context(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}

	log := node.journal(t)
	startReady(t, node, "--lease-ttl=10s")
	log.wantOnce(t, "going on from the state file")
	stopDaemon(t, node, unix.SIGTERM)

	time.Sleep(11 * time.Second)
	log = node.journal(t)
	if err := node.StartDaemon(t.Context(), "--lease-ttl=10s"); err != nil {
		t.Fatal(err)
	}
	heals(t, log.tells(t, "the state file is of no use"))
	log.wantOnce(t, "the lease ran out at")
	time.Sleep(time.Second)
	if err := node.Ready(t.Context()); err == nil {
		t.Error("the node is ready on a lease that has run out")
	}
	if err := l.StartEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := leaseKey(t, node); got != key {
		t.Errorf("subnet %s, want %s, which nobody else has taken", got, key)
	}
}
