package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaultsOfTheProcess ends, stops and starts the daemon. Pods do not notice.
func TestFaultsOfTheProcess(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	right, key := rows(t.Context(), v.Host), leaseKey(t, v.Host)
	wantSame := func(t *testing.T, log journal, probe *Probe) {
		t.Helper()
		if err := rowsAre(t, v.Host, right)(); err != nil {
			t.Error(err)
		}
		wantNoneLost(t, probe)
		wantRight(t, v.Host)
		if n := log.count(t, "kernel changed"); n > 0 {
			t.Errorf("%d changes of the kernel, want none:\n%s", n, log.text(t))
		}
		if got := leaseKey(t, v.Host); got != key {
			t.Errorf("subnet %s, want %s", got, key)
		}
	}

	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL, unix.SIGABRT} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			log, probe := v.journal(t), v.probe(t)
			status, err := v.StopDaemon(t.Context(), signal)
			if err != nil {
				t.Fatal(err)
			}
			if orderly := signal == unix.SIGTERM || signal == unix.SIGINT; orderly != (status.Exit == "exit status 0") {
				t.Errorf("ended with %s", status.Exit)
			}
			if err := rowsAre(t, v.Host, right)(); err != nil {
				t.Errorf("while the daemon is down: %v", err)
			}
			startReady(t, v.Host)
			wantSame(t, log, probe)
		})
	}
	t.Run("stopped for 20 s", func(t *testing.T) {
		probe := v.probe(t)
		stopDaemon(t, v.Host, unix.SIGSTOP)
		time.Sleep(20 * time.Second)
		stopDaemon(t, v.Host, unix.SIGCONT)
		took := heals(t, func() error { return v.Ready(t.Context()) })
		heals(t, etcdIs(t, v.Host, 1))
		t.Logf("answers %s after SIGCONT", took.Round(time.Millisecond))
		l.put(t, subnetsDir+"10.244.250.0-24", strangerLease("192.0.2.250", stray))
		heals(t, hasRoute(t, v.Host, "10.244.250.0/24"))
		l.del(t, subnetsDir+"10.244.250.0-24")
		heals(t, rowsAre(t, v.Host, right))
		wantNoneLost(t, probe)
		wantRight(t, v.Host)
	})
	t.Run("100 restarts in a row", func(t *testing.T) {
		log, probe := v.journal(t), v.probe(t)
		var first, last use
		for i := range 100 {
			signal := []unix.Signal{unix.SIGTERM, unix.SIGKILL}[i%2]
			if err := v.RestartDaemon(t.Context(), signal); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = v.use(t)
			}
		}
		last = v.use(t)
		wantSame(t, log, probe)
		wantNoMore(t, first, last)
	})
	t.Run("200 changes", func(t *testing.T) {
		probe, first := v.probe(t), v.use(t)
		for i := range 200 {
			l.put(t, subnetsDir+"10.244.250.0-24", strangerLease("192.0.2.250", fmt.Sprintf("02:00:00:00:01:%02x", i)))
			if i%20 == 0 {
				v.sh(t, "ip neigh flush dev tulle.1 nud permanent; iptables -F TULLE-FORWARD")
			}
		}
		l.del(t, subnetsDir+"10.244.250.0-24")
		heals(t, rowsAre(t, v.Host, right))
		wantAnswered(t, probe)
		t.Logf("probe: %s", probe.Stop())
		wantNoMore(t, first, v.use(t))
	})
}

// use is what a process takes of the machine.
type use struct{ files, goroutines, resident float64 }

func (u use) String() string {
	return fmt.Sprintf("%v files, %v goroutines, %.1f MiB", u.files, u.goroutines, u.resident/(1<<20))
}

func (v victim) use(t *testing.T) use {
	t.Helper()
	return use{metric(t, v.Host, "process_open_fds"), metric(t, v.Host, "go_goroutines"), metric(t, v.Host, "process_resident_memory_bytes")}
}

// wantNoMore checks that nothing leaks. What is open at a moment differs by the
// few that a request takes.
func wantNoMore(t *testing.T, first, last use) {
	t.Helper()
	t.Logf("first %s; last %s", first, last)
	if last.files > first.files+8 || last.goroutines > first.goroutines+12 || last.resident > 1.5*first.resident+(16<<20) {
		t.Errorf("the process takes %s, and took %s at first", last, first)
	}
}

// TestFullDisk takes the room for the daemon's files away.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	right := rows(t.Context(), v.Host)
	const newPeer = subnetsDir + "10.244.250.0-24"

	for _, tt := range []struct{ name, mount, begin, end, dir string }{
		{"the state directory is full", "mkdir -p /var/lib/tulle; mount -t tmpfs -o size=4k full /var/lib/tulle; head -c 4096 /dev/zero >/var/lib/tulle/zero || true",
			"the state file can't be written", "the state file is written", "/var/lib/tulle"},
		{"the state directory is read-only", "mkdir -p /var/lib/tulle; mount -t tmpfs -o ro none /var/lib/tulle",
			"the state file can't be written", "the state file is written", "/var/lib/tulle"},
		{"the subnet file's directory is read-only", "mount -t tmpfs -o ro none /run/tulle",
			"the subnet file can't be written", "the subnet file is written", "/run/tulle"},
		{"the subnet file's directory is full", "mount -t tmpfs -o size=4k full /run/tulle; head -c 4096 /dev/zero >/run/tulle/zero || true",
			"the subnet file can't be written", "the subnet file is written", "/run/tulle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log, probe := v.journal(t), v.probe(t)
			v.sh(t, tt.mount)
			l.put(t, newPeer, strangerLease("192.0.2.250", stray)) // something to write
			heals(t, hasRoute(t, v.Host, "10.244.250.0/24"))
			told := healsTold(t, log, tt.begin)
			t.Logf("told after %s", told.Round(time.Millisecond))
			time.Sleep(3 * time.Second) // it tries again meanwhile
			log.wantOnce(t, tt.begin)
			v.sh(t, "umount --lazy "+tt.dir) // the socket for the plugin is there
			took := healsTold(t, log, tt.end)
			t.Logf("written %s after there is room", took.Round(time.Millisecond))
			log.wantOnce(t, tt.end)
			l.del(t, newPeer)
			heals(t, rowsAre(t, v.Host, right))
			wantNoneLost(t, probe)
			wantRight(t, v.Host)
			if left, err := filepath.Glob(v.Path(filepath.Join(tt.dir, "*tmp*"))); err != nil || len(left) > 0 {
				t.Errorf("left behind: %s %v", left, err)
			}
		})
	}
	t.Run("the daemon starts with both read-only", func(t *testing.T) {
		probe := v.probe(t)
		stopDaemon(t, v.Host, unix.SIGTERM)
		v.sh(t, "mount -t tmpfs -o ro none /run/tulle; mount -t tmpfs -o ro none /var/lib/tulle")
		log := v.journal(t)
		if err := v.StartDaemon(t.Context()); err != nil {
			t.Fatal(err)
		}
		heals(t, log.tells(t, "the subnet file can't be written"))
		healsTold(t, log, "the state file can't be written")
		if err := rowsAre(t, v.Host, right)(); err != nil {
			t.Error(err)
		}
		v.sh(t, "umount --lazy /run/tulle; umount /var/lib/tulle")
		if err := v.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantNoneLost(t, probe)
		if _, err := os.Stat(v.Path(subnetFile)); err != nil {
			t.Error(err)
		}
	})
}

// healsTold waits for words in the log. The state file is written every 10 s at
// most, which is longer than other things may take.
func healsTold(t *testing.T, log journal, words string) time.Duration {
	t.Helper()
	begin := time.Now()
	for log.count(t, words) == 0 && time.Since(begin) < 2*healTime {
		time.Sleep(pollEvery)
	}
	heals(t, log.tells(t, words))
	return time.Since(begin)
}
