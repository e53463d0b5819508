package lab

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tulle/internal/status"
)

// TestFaultsOnTheWayAreToldApart does something else to the way to each peer, all
// at once, and undoes it.
func TestFaultsOnTheWayAreToldApart(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 5})
	node := l.Host("node1")
	faults := map[string]struct{ fault, undo, verdict string }{
		"node2": {"nft add rule inet fault input udp dport 8472 drop", flushFaults, "blocked"},
		"node3": {"ip link set eth0 down", "ip link set eth0 up", "silent"},
		"node4": {"nft add rule inet fault input udp dport 8472 meta length '>' 1400 drop", flushFaults, "mtu-hole"},
		// What has its checksum computed by the device is the kernel's own, with options.
		"node5": {"nft add rule inet fault input iifname tulle.1 tcp dport 9 tcp doff '>' 5 drop", flushFaults, "checksum"},
	}
	stopDaemon(t, node, syscall.SIGTERM)
	startReady(t, node, "--probe-interval=100ms")
	log := node.journal(t)

	told := func(want func(node string) string) func() error {
		return func() error {
			wrong := ""
			for _, p := range stateOf(t, node).Peers {
				if p.Reach == nil {
					wrong += p.Node + " is not looked at yet; "
				} else if p.Reach.Verdict != want(p.Node) {
					wrong += fmt.Sprintf("%s is %s, want %s; ", p.Node, p.Reach.Verdict, want(p.Node))
				}
			}
			if wrong != "" {
				return fmt.Errorf("%s", strings.TrimSuffix(wrong, "; "))
			}
			return nil
		}
	}
	good := func(string) string { return "good" }
	waitFor(t, told(good))

	for name, f := range faults {
		if _, err := l.Host(name).Exec(t.Context(), "sh", "-euc", "nft add table inet fault; nft add chain inet fault input '{ type filter hook prerouting priority -500; }'; "+f.fault); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, told(func(node string) string { return faults[node].verdict }))
	for _, f := range faults {
		if n := strings.Count(log.whole(t), `"error": "`+f.verdict+`: `); n != 1 {
			t.Errorf("%d lines say that a peer is %s, want 1:\n%s", n, f.verdict, log.whole(t))
		}
	}
	for _, verdict := range []string{"blocked", "silent", "mtu-hole", "checksum"} {
		if n := metric(t, node, `tulle_peers_reached{verdict="`+verdict+`"}`); n != 1 {
			t.Errorf("tulle_peers_reached of %s is %v, want 1", verdict, n)
		}
	}
	if !stateOf(t, node).Ready {
		t.Error("node1 is no longer ready; that a peer can't be reached is not its own fault")
	}

	for name, f := range faults {
		if _, err := l.Host(name).Exec(t.Context(), "sh", "-euc", f.undo); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, told(good))
	if n := strings.Count(log.whole(t), "a peer is reached again"); n != len(faults) {
		t.Errorf("%d lines say that a peer is reached again, want %d:\n%s", n, len(faults), log.whole(t))
	}

	// Every node tells the one that asks.
	waitFor(t, func() error {
		var m status.Mesh
		text, err := get(t.Context(), node.Client(), daemonStatus+"/mesh")
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			return err
		}
		if len(m.Nodes) != 5 {
			return fmt.Errorf("%d nodes tell something, want 5", len(m.Nodes))
		}
		for _, n := range m.Nodes {
			if n.Error != "" || len(n.Peers) != 4 {
				return fmt.Errorf("%s tells of %d peers, want 4: %s", n.Node, len(n.Peers), n.Error)
			}
		}
		return nil
	})
}

const flushFaults = "nft delete table inet fault"

// waitFor polls until ok returns nil. Looks at peers come one after another, so it
// takes its time.
func waitFor(t *testing.T, ok func() error) {
	t.Helper()
	const most, every = time.Minute, 200 * time.Millisecond
	for begin := time.Now(); ; time.Sleep(every) {
		err := ok()
		if err == nil {
			return
		}
		if time.Since(begin) > most {
			t.Fatalf("not so after %s: %v", most, err)
		}
	}
}

// TestOnlyPeersAreTold asks a node what it reaches from elsewhere than a peer's own
// address.
func TestOnlyPeersAreTold(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	const ask = "curl --silent --max-time 5 http://10.244.57.0:8473/reached"
	if text, err := l.Host("node1").Exec(t.Context(), "sh", "-c", ask); err != nil || !strings.Contains(text, `"node": "node2"`) {
		t.Errorf("node1 asks node2: %s, %v; want an answer", text, err)
	}
	for _, from := range []*Place{&l.Pods[0].Place, &l.Host("outside").Place} {
		if text, err := from.Exec(t.Context(), "sh", "-c", ask); err == nil {
			t.Errorf("%s asks node2: %s; want no answer", from.Name, text)
		}
	}
}
