package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// up brings a lab up that ends with the test.
func up(t *testing.T, o Options) *Lab {
	t.Helper()
	o.Bin = testBin(t)
	o.Progress = func(step string) { t.Log(step) }
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		wantNoRace(t, l)
		if _, err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// wantNoRace looks for what the race detector, with which the programs are built
// as the test is, has told in the log of any.
func wantNoRace(t *testing.T, l *Lab) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(l.dir, "*", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Errorf("the lab has the logs %q, %v", logs, err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		if _, race, found := strings.Cut(string(text), "WARNING: DATA RACE"); found {
			t.Errorf("%s tells of a data race:%.3000s", path, race)
		}
	}
}

// TestLab is the end-to-end test: the proof of the whole, and what a restart
// does to it.
func TestLab(t *testing.T) {
	t.Parallel()
	testBin(t)
	before, err := machineState()
	if err != nil {
		t.Fatal(err)
	}
	l := up(t, Options{Nodes: 3, Pods: 2})

	t.Run("every check of the proof holds", func(t *testing.T) {
		withIPTables(t, l.Nodes()[0])
		wantProved(t, l)
	})
	t.Run("the machine outside is as it was", func(t *testing.T) {
		if diff := machineChange(before); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a tulled that is stopped and started again changes nothing and loses no packet", func(t *testing.T) {
		restart(t, l, unix.SIGTERM)
	})
	t.Run("a tulled that is killed and started again changes nothing and loses no packet", func(t *testing.T) {
		restart(t, l, unix.SIGKILL)
	})
	t.Run("the overlay works without etcd", func(t *testing.T) {
		if err := l.StopEtcd(t.Context(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, l)
		if err := l.StartEtcd(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, l)
	})
	t.Run("a pod is removed and another one made", func(t *testing.T) {
		last := l.Pods[len(l.Pods)-1]
		if err := l.RemovePod(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Place(last.Name); err == nil {
			t.Errorf("Place(%s) finds the pod that was removed", last.Name)
		}
		if err := pingOnce(t.Context(), &l.Pods[0].Place, last.Addr(), echoes[subnet.IPv4].small()); err == nil {
			t.Errorf("%s still answers at %s after it was removed", last.Name, last.Addr())
		}
		if _, err := l.AddPod(t.Context(), last.Host(), last.Name); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, l)
	})
}

// wantProved checks that the proof holds, and that it leaves the kernel as it was.
func wantProved(t *testing.T, l *Lab) {
	t.Helper()
	was := dump(t, l.Nodes()[0])
	proof, err := l.Prove(t.Context(), func(string) {})
	t.Logf("\n%s", proof)
	if err != nil {
		t.Error(err)
	}
	if now := dump(t, l.Nodes()[0]); now != was {
		t.Errorf("the kernel after the proof:\n%s\nbefore:\n%s", now, was)
	}
}

func wantWhole(t *testing.T, l *Lab) {
	t.Helper()
	for _, f := range l.Families.List() {
		m, err := l.Measure(t.Context(), f, 1)
		if err == nil {
			_, err = m.verdict()
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// dataPlane reads what tulled holds in the kernel of a node, and what its pods
// need. What the kernel changes by itself is not in it: timers of the bridge,
// MAC addresses that it learned, IPv6 addresses that it still tries.
var dataPlane = []string{
	"ip link", "ip -d link show tulle.1", "ip -4 address", "ip -6 address show dev tulle.1", "ip route", "ip -6 route show proto 116",
	"ip nexthop", "ip neigh show nud permanent", "bridge fdb show dev tulle.1", "iptables-save", "ip6tables-save",
}

func dump(t *testing.T, h *Host) string {
	t.Helper()
	var b strings.Builder
	for _, command := range dataPlane {
		if h.lab.backend == subnet.HostGW && strings.Contains(command, "tulle.1") {
			continue
		}
		text, err := h.Exec(t.Context(), strings.Fields(command)...)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("$ " + command + "\n" + strings.ReplaceAll(counters.ReplaceAllString(text, ""), " tentative", ""))
	}
	return b.String()
}

// restart ends and starts the daemon of node1 while a pod there talks with one
// on the last node.
func restart(t *testing.T, l *Lab, signal unix.Signal) {
	node, c := l.Nodes()[0], l.cast()
	before := dump(t, node)
	if !strings.Contains(before, "proto 116") {
		t.Fatalf("no route of tulled's on %s:\n%s", node.Name, before)
	}

	stop := make(chan struct{}) // closed when the daemon is back
	lost := make(chan error, 1) // watch sends once
	go func() { lost <- watch(t.Context(), c.near, c.far, stop) }()

	status, err := node.StopDaemon(t.Context(), signal)
	if err != nil {
		t.Fatal(err)
	}
	if signal == unix.SIGTERM && status.Exit != "exit status 0" {
		t.Errorf("tulled after SIGTERM: %s, want exit status 0", status.Exit)
	}
	if stopped := dump(t, node); stopped != before {
		t.Errorf("the kernel after tulled ended:\n%s\nbefore:\n%s", stopped, before)
	}
	if err := errors.Join(node.StartDaemon(t.Context()), node.WaitReady(t.Context())); err != nil {
		t.Fatal(err)
	}
	if after := dump(t, node); after != before {
		t.Errorf("the kernel after the restart:\n%s\nbefore:\n%s", after, before)
	}
	close(stop)
	if err := <-lost; err != nil {
		t.Error(err)
	}
}

// watch sends one packet after the other until stop is closed, and fails on the
// first that is lost.
func watch(ctx context.Context, from, to *Pod, stop <-chan struct{}) error {
	const id = 7 // not that of other pings of this process
	socket, err := newPinger(ctx, &from.Place, subnet.FamilyOf(to.Addr()), id)
	if err != nil {
		return err
	}
	defer socket.close()
	for pace := time.NewTicker(5 * time.Millisecond); ; {
		if _, err := socket.ping(ctx, to.Addr(), socket.small()); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-pace.C:
		}
	}
}

// TestTwoLabsSideBySide proves both at once, then breaks one of them: the proof
// must find that, and the other lab must not.
func TestTwoLabsSideBySide(t *testing.T) {
	t.Parallel()
	labs := []*Lab{up(t, Options{Nodes: 2, Pods: 2, Firewall: "iptables"}), up(t, Options{Nodes: 2, Pods: 2, Firewall: "nftables"})}
	if labs[0].Name == labs[1].Name {
		t.Fatalf("both labs are named %s", labs[0].Name)
	}
	var wg sync.WaitGroup
	for _, l := range labs {
		wg.Go(func() {
			if _, err := l.Prove(t.Context(), func(string) {}); err != nil {
				t.Errorf("%s: %v", l.Name, err)
			}
		})
	}
	wg.Wait()

	broken := labs[0]
	if _, err := broken.Host("underlay").Exec(t.Context(), "ip", "link", "set", "node2", "down"); err != nil {
		t.Fatal(err)
	}
	m, err := broken.Measure(t.Context(), subnet.IPv4, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, from := range broken.Pods {
		for j, to := range broken.Pods {
			if across, lost := from.Host() != to.Host(), m.Cells[i][j].Lost > 0; lost != across {
				t.Errorf("hosts cut off: %s to %s: lost is %t, want %t", from.Name, to.Name, lost, across)
			}
		}
	}
	if _, err := m.verdict(); !errors.Is(err, errLost) {
		t.Errorf("hosts cut off: verdict = %v, want packets lost", err)
	}
	if seen, err := checkTransfer(t.Context(), broken, subnet.IPv4); err == nil {
		t.Errorf("hosts cut off: the transfer held: %s", seen)
	}
	wantWhole(t, labs[1])
}
