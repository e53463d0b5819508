package lab

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// TestFaultsOfTheLease does things to a node's own lease.
func TestFaultsOfTheLease(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	other := v.far.host
	right, key := rows(t.Context(), v.Host), leaseKey(t, v.Host)
	otherRight, otherKey := rows(t.Context(), other), leaseKey(t, other)
	keys := []string{key, otherKey}

	t.Run("deleted", func(t *testing.T) {
		log, probe := v.journal(t), v.probe(t)
		l.del(t, subnetsDir+key)
		took := heals(t, leasesAre(t, l, keys))
		t.Logf("taken again after %s", took.Round(time.Millisecond))
		heals(t, rowsAre(t, other, otherRight))
		if err := rowsAre(t, v.Host, right)(); err != nil {
			t.Error(err)
		}
		heals(t, log.tells(t, "our lease in etcd was gone or out of date and is written again"))
		log.wantOnce(t, "our lease in etcd was gone or out of date and is written again")
		wantAnswered(t, probe)
		t.Logf("probe: %s", probe.Stop())
	})
	t.Run("a second node with the same name is refused", func(t *testing.T) {
		stopDaemon(t, other, unix.SIGTERM)
		l.del(t, subnetsDir+otherKey) // it is new
		log := other.journal(t)
		if err := other.StartDaemon(t.Context(), "--node-name="+v.Name); err != nil {
			t.Fatal(err)
		}
		wantExit(t, other)
		log.wantOnce(t, "the name "+v.Name+" is that of a node at "+v.Addr().String())
		startReady(t, other)
		if got := leaseKey(t, other); got != otherKey {
			t.Errorf("%s has subnet %s, want %s", other.Name, got, otherKey)
		}
		heals(t, leasesAre(t, l, keys))
		heals(t, rowsAre(t, v.Host, right))
	})
	t.Run("a second node with the same public address is refused", func(t *testing.T) {
		stopDaemon(t, other, unix.SIGTERM)
		l.del(t, subnetsDir+otherKey) // it is new
		log := other.journal(t)
		if err := other.StartDaemon(t.Context(), "--public-ip="+v.Addr().String(), "--node-name=clone"); err != nil {
			t.Fatal(err)
		}
		wantExit(t, other)
		for _, word := range []string{"our public address " + v.Addr().String(), "of node " + v.Name, "clone"} {
			if log.count(t, word) == 0 {
				t.Errorf("no %q in the log:\n%s", word, log.text(t))
			}
		}
		startReady(t, other)
		if got := leaseKey(t, other); got != otherKey {
			t.Errorf("%s has subnet %s, want %s", other.Name, got, otherKey)
		}
		heals(t, leasesAre(t, l, keys))
		heals(t, rowsAre(t, v.Host, right))
	})
	t.Run("a reservation stays one", func(t *testing.T) {
		probe := v.probe(t)
		kv, _ := l.read(t, subnetsDir+key)
		l.put(t, subnetsDir+key, string(kv.Value)) // without etcd's lease
		lasts := func(when string) {
			t.Helper()
			if kv, ok := l.read(t, subnetsDir+key); !ok || kv.Lease != "" {
				t.Errorf("%s the key is there: %t, with etcd's lease %q, want one without", when, ok, kv.Lease)
			}
		}
		time.Sleep(500 * time.Millisecond)
		lasts("while the node runs")
		for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
			if err := v.RestartDaemon(t.Context(), signal); err != nil {
				t.Fatal(err)
			}
			lasts("after a restart")
		}
		if got := leaseKey(t, v.Host); got != key {
			t.Errorf("subnet %s, want %s", got, key)
		}
		wantNoneLost(t, probe)
		l.del(t, subnetsDir+key)
		heals(t, leasesAre(t, l, keys))
	})
	t.Run("a subnet reserved for a node that comes later", func(t *testing.T) {
		stopDaemon(t, other, unix.SIGTERM)
		l.del(t, subnetsDir+otherKey)
		if _, err := other.Exec(t.Context(), "rm", "-rf", "/var/lib/tulle", "/run/tulle"); err != nil {
			t.Fatal(err) // it is new
		}
		log := v.journal(t)
		const theirs = "10.244.77.0/24"
		text, err := l.EtcdHosts()[0].Exec(t.Context(), "tullectl", "lease", "reserve", theirs, "--node", other.Name, "--address", other.Addr().String())
		if err != nil {
			t.Fatal(text, err)
		}
		heals(t, log.tells(t, "subnet reserved for a node that has not come yet"))
		if awaited, leftOut := metric(t, v.Host, `tulle_peers{state="awaited"}`), metric(t, v.Host, `tulle_peers{state="left out"}`); awaited != 1 || leftOut != 0 {
			t.Errorf("%v peers are awaited and %v left out, want 1 and none", awaited, leftOut)
		}
		for _, command := range []struct {
			at   *Host
			args []string
		}{{v.Host, []string{"tullectl", "status"}}, {l.EtcdHosts()[0], []string{"tullectl", "lease", "list"}}} {
			if text, err := command.at.Exec(t.Context(), command.args...); err != nil || !strings.Contains(text, "reserved, not there yet") {
				t.Errorf("%q prints %v\n%s", command.args, err, text)
			}
		}
		startReady(t, other)
		if file, err := other.Subnet(); err != nil || file.Subnets[subnet.IPv4].Masked().String() != theirs {
			t.Errorf("%s has %v, %v, want what is reserved for it", other.Name, file.Subnets, err)
		}
		heals(t, log.tells(t, "peer came"))
		wantRight(t, v.Host)
		if n := log.count(t, " WARN "); n > 0 {
			t.Errorf("%d warnings, want none:\n%s", n, log.text(t))
		}
	})
	t.Run("overwritten by another node", func(t *testing.T) {
		log := v.journal(t)
		theirs := strings.Replace(strangerLease("192.0.2.250", stray), "}}", `},"Node":"usurper"}`, 1)
		l.put(t, subnetsDir+key, theirs)
		wantExit(t, v.Host)
		for _, word := range []string{"node " + v.Name, "usurper", "192.0.2.250"} {
			if log.count(t, word) == 0 {
				t.Errorf("no %q in the log:\n%s", word, log.text(t))
			}
		}
		if kv, ok := l.read(t, subnetsDir+key); !ok || string(kv.Value) != theirs {
			t.Errorf("the other node's lease became %s", kv.Value)
		}
		if file, err := v.Subnet(); err == nil {
			t.Errorf("pods could still get addresses of %v", file.Subnets)
		}
	})
	if err := l.StopEtcd(t.Context(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Run("overwritten by another node, and started again without etcd", func(t *testing.T) {
		log := v.journal(t)
		if err := v.StartDaemon(t.Context()); err != nil {
			t.Fatal(err)
		}
		heals(t, log.tells(t, "the state file is of no use"))
		heals(t, log.tells(t, "etcd gives no answer"))
		if n := log.count(t, "going on from the state file"); n > 0 || v.Ready(t.Context()) == nil {
			t.Errorf("it goes on with a subnet that another node has:\n%s", log.text(t))
		}
	})
	t.Run("a clone is started without etcd", func(t *testing.T) {
		stopDaemon(t, v.Host, unix.SIGTERM)
		memory, err := os.ReadFile(other.Path(daemonMemory))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(v.Path(daemonMemory), memory, 0o600); err != nil {
			t.Fatal(err)
		}
		log := v.journal(t)
		if err := v.StartDaemon(t.Context(), "--node-name="+other.Name); err != nil {
			t.Fatal(err)
		}
		heals(t, log.tells(t, "the state file is of no use"))
		log.wantOnce(t, other.Addr().String())
		if n := log.count(t, "going on from the state file"); n > 0 || v.Ready(t.Context()) == nil {
			t.Errorf("it goes on as the node that it is a clone of:\n%s", log.text(t))
		}
	})
}
