package kernel

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"tulle/backend"
	"tulle/subnet"
)

// listener counts what a reconciler would take for a change by others.
type listener struct {
	t     *testing.T
	want  backend.State
	wakes atomic.Int64
}

func (l *listener) Wake(kinds backend.Kinds) {
	if kinds == backend.Settings && l.want != nil {
		return // the kernel does not tell whose doing it was, and a look is cheap
	}
	l.t.Logf("woken to look at %b", kinds)
	l.wakes.Add(1)
}

func (l *listener) Moved() {}

func (l *listener) Heard(row backend.Entry, gone bool) {
	if backend.Alarming(l.want, row, gone) {
		l.t.Logf("heard of %v, gone %t", row, gone)
		l.Wake(backend.Network)
	}
}

// watching counts wakes while the test runs. The watcher has to be in the
// test's namespace when it subscribes.
func watching(t *testing.T, h host, want backend.State, watch func(context.Context, Listener) error) *atomic.Int64 {
	t.Helper()
	l := &listener{t: t, want: want}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			t.Error(err)
			return
		}
		if err := watch(ctx, l); ctx.Err() == nil {
			t.Errorf("Watch = %v, want it to go on", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	// Time to subscribe, and for what the kernel tells late of what was done before:
	// once a second that a device has its carrier (linkwatch), and that an IPv6 address may
	// be used. A test that hears less than it should fails.
	for before := int64(-1); before != l.wakes.Load(); {
		before = l.wakes.Load()
		time.Sleep(1200 * time.Millisecond)
	}
	l.wakes.Store(0)
	return &l.wakes
}

// settle waits until the watcher has heard what was done before.
func settle() { time.Sleep(50 * time.Millisecond) }

func TestWatchIgnoresOwnChanges(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	apply(t, k, backend.NewState(device()))
	dump(t, k, backend.NewState(device())) // so that it is known which devices matter
	want := whole()
	wakes := watching(t, h, want, k.Watch)
	apply(t, k, want)
	settle()
	if got := wakes.Load(); got != 0 {
		t.Errorf("own changes woke %d times", got)
	}
}

func TestWatchIgnoresOwnDeletions(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	apply(t, k, whole())
	less := backend.NewState(device())
	dump(t, k, less)
	wakes := watching(t, h, less, k.Watch)
	apply(t, k, less)
	settle()
	if got := wakes.Load(); got != 0 {
		t.Errorf("own deletions woke %d times", got)
	}
}

func TestWatchHearsOthers(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	want := whole()
	apply(t, k, want)
	dump(t, k, want)
	wakes := watching(t, h, want, k.Watch)
	for _, test := range []struct {
		name, command string
		wake          bool
	}{
		// The kernel tells of a device's carrier up to a second later, so what wakes comes last.
		{"a stranger's device", "ip link add other type veth peer name other2", false},
		{"a stranger's device up", "ip link set other up", false},
		{"a stranger's address", "ip addr add 198.51.100.1/24 dev other", false},
		{"a stranger's neighbour", "ip neigh add 198.51.100.2 lladdr 0a:00:00:00:00:55 dev other", false},
		{"a stranger's route", "ip route add unreachable 198.18.0.0/15 proto static", false},
		{"our route deleted", "ip route del 10.244.3.0/24", true},
		{"our route replaced by a stranger's", "ip route replace 10.244.2.0/24 via 192.0.2.1 proto static", true},
		{"our nexthop deleted", "ip nexthop del id 18", true},
		{"our neighbour deleted", "ip neigh del 10.244.2.0 dev tulle.1", true},
		{"our neighbour altered", "ip neigh replace 10.244.3.0 lladdr 0a:00:00:00:00:77 dev tulle.1 nud permanent", true},
		{"our neighbour no longer permanent", "ip neigh replace 10.244.3.0 lladdr 0a:00:00:00:00:02 dev tulle.1 nud stale", true},
		{"an fdb row too many", "bridge fdb add 0a:00:00:00:00:99 dev tulle.1 dst 192.0.2.99 self permanent", true},
		{"our fdb row deleted", "bridge fdb del 0a:00:00:00:00:02 dev tulle.1", true},
		{"our address deleted", "ip addr del 10.244.1.0/32 dev tulle.1", true},
		{"our device changed", "ip link set tulle.1 mtu 1400", true},
		{"the underlay's address changed", "ip addr add 192.0.2.77/24 dev eth0", true},
		{"the underlay down", "ip link set eth0 down", true},
	} {
		settle()
		before := wakes.Load()
		run(t, test.command)
		settle()
		if woke := wakes.Load() > before; woke != test.wake {
			t.Errorf("%s: woke %t, want %t", test.name, woke, test.wake)
		}
	}
}

func TestWatchRules(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			h := fresh(t)
			useIPTables(t, kind)
			k := open(t, jumps(subnet.IPv4)...)
			apply(t, k, rules(subnet.IPv4))
			watch, pause := k.WatchRules, settle
			if kind == "legacy" {
				watch, pause = k.WatchLegacyRules, func() { time.Sleep(legacyRest + 100*time.Millisecond) }
			}
			run(t, "iptables -N OTHER")
			wakes := watching(t, h, nil, watch)
			for _, test := range []struct {
				command string
				wake    bool
			}{
				{"iptables -N KUBE-X;iptables -A KUBE-X -j ACCEPT", false},
				{"iptables -R KUBE-X 1 -j DROP", false},
				{"iptables -N A-BEFORE-ALL;iptables -A A-BEFORE-ALL -s 203.0.113.1 -j KUBE-X", false},
				{"iptables -t nat -A OUTPUT -s 203.0.113.1 -j ACCEPT", false},
				{"iptables -t nat -D TULLE-POSTROUTING 1", true},
				{"iptables -I FORWARD -j REJECT", true},
				{"iptables -R FORWARD 1 -j DROP", true},
				{"iptables -D FORWARD -j TULLE-FORWARD", true},
				{"iptables -A FORWARD -j TULLE-FORWARD", true},
				// Of the same size as what was there.
				{"iptables -R TULLE-FORWARD 1 -s 203.0.113.0/24 -j ACCEPT", true},
				{"iptables -R TULLE-FORWARD 1 -s 203.0.113.0/24 -j DROP", true},
				{"iptables -R FORWARD 2 -j OTHER", true},
				{"iptables -P FORWARD DROP", true},
				{"iptables -t nat -F", true},
			} {
				pause()
				before := wakes.Load()
				for command := range strings.SplitSeq(test.command, ";") {
					run(t, command)
				}
				if !test.wake {
					pause()
				}
				for end := time.Now().Add(10 * time.Second); test.wake && wakes.Load() == before && time.Now().Before(end); {
					settle()
				}
				if woke := wakes.Load() > before; woke != test.wake {
					t.Errorf("%s: woke %t, want %t", test.command, woke, test.wake)
				}
			}
			if kind == "nft" {
				before := wakes.Load()
				run(t, "nft flush ruleset")
				settle()
				if wakes.Load() == before {
					t.Error("nft flush ruleset did not wake")
				}
			}
		})
	}
}

func TestWatchSysctls(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	want := whole()
	apply(t, k, want)
	dump(t, k, want)
	wakes := watching(t, h, nil, k.Watch)
	run(t, "sysctl -q net.ipv4.ip_forward=0")
	settle()
	if wakes.Load() == 0 {
		t.Error("forwarding switched off did not wake")
	}
}

// A stranger's row that was there first is left alone, but one that somebody put
// in the place of ours was put there by hand, and ours comes back.
func TestOurRowsReplaced(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	want := whole()
	apply(t, k, want)
	dump(t, k, want)
	wakes := watching(t, h, want, k.Watch)
	run(t, "ip route replace 10.244.2.0/24 via 192.0.2.1")
	run(t, "ip -6 route replace blackhole fd42:0:0:2::/64")
	run(t, "ip nexthop replace id 17 via 192.0.2.1 dev eth0")
	settle()
	if wakes.Load() == 0 {
		t.Error("nobody was told")
	}
	apply(t, k, want)
	same(t, k, want)
}
