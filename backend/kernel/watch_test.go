package kernel

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// listener counts what a reconciler would take for a change by others.
type listener struct {
	t            *testing.T
	want         backend.State
	wakes, marks atomic.Int64
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
	if row == mark {
		l.marks.Add(1)
		return
	}
	if backend.Alarming(l.want, row, gone) {
		l.t.Logf("heard of %v, gone %t", row, gone)
		l.Wake(backend.Network)
	}
}

// mark is an address that tests put on our device and nobody else.
var mark = backend.Addr{Dev: "tulle.1", Prefix: netip.MustParsePrefix("203.0.113.1/32")}

// hearsAll waits until what was done before is heard, for the kernel tells of it in
// that order. The device has to be there since before the last dump.
func (l *listener) hearsAll(t *testing.T) {
	t.Helper()
	before := l.marks.Load()
	run(t, "ip addr add 203.0.113.1/32 dev tulle.1")
	run(t, "ip addr del 203.0.113.1/32 dev tulle.1")
	for end := time.Now().Add(hearTime); l.marks.Load() < before+2; settle() {
		if time.Now().After(end) {
			t.Fatalf("not heard of within %s: that %s came and went", hearTime, mark)
		}
	}
}

// hearTime is how long it may take at most until something is heard.
const hearTime = 10 * time.Second

// woken waits until there are more wakes than before.
func (l *listener) woken(before int64) bool {
	for end := time.Now().Add(hearTime); time.Now().Before(end); settle() {
		if l.wakes.Load() > before {
			return true
		}
	}
	return false
}

// watching counts wakes while the test runs. The watcher has to be in the
// test's namespace when it subscribes.
func watching(t *testing.T, h host, want backend.State, watch func(context.Context, Listener) error) *listener {
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
	return l
}

// settle leaves the watcher some time.
func settle() { time.Sleep(50 * time.Millisecond) }

func TestWatchIgnoresOwnChanges(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	apply(t, k, backend.NewState(device()))
	dump(t, k, backend.NewState(device())) // so that it is known which devices matter
	want := whole()
	l := watching(t, h, want, k.Watch)
	apply(t, k, want)
	l.hearsAll(t)
	if got := l.wakes.Load(); got != 0 {
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
	l := watching(t, h, less, k.Watch)
	apply(t, k, less)
	l.hearsAll(t)
	if got := l.wakes.Load(); got != 0 {
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
	l := watching(t, h, want, k.Watch)
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
		before := l.wakes.Load()
		run(t, test.command)
		l.hearsAll(t)
		if woke := l.wakes.Load() > before; woke != test.wake {
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
			l := watching(t, h, nil, watch)
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
				before := l.wakes.Load()
				for command := range strings.SplitSeq(test.command, ";") {
					run(t, command)
				}
				if !test.wake {
					pause()
				}
				if woke := l.wakes.Load() > before || test.wake && l.woken(before); woke != test.wake {
					t.Errorf("%s: woke %t, want %t", test.command, woke, test.wake)
				}
			}
			if kind == "nft" {
				before := l.wakes.Load()
				run(t, "nft flush ruleset")
				if !l.woken(before) {
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
	l := watching(t, h, nil, k.Watch)
	run(t, "sysctl -q net.ipv4.ip_forward=0")
	if !l.woken(0) {
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
	l := watching(t, h, want, k.Watch)
	run(t, "ip route replace 10.244.2.0/24 via 192.0.2.1")
	run(t, "ip -6 route replace blackhole fd42:0:0:2::/64")
	run(t, "ip nexthop replace id 17 via 192.0.2.1 dev eth0")
	l.hearsAll(t)
	if l.wakes.Load() == 0 {
		t.Error("nobody was told")
	}
	apply(t, k, want)
	same(t, k, want)
}

// A stranger's row that was there before ours could be stays a stranger's when he
// replaces it by hand, and ours comes when he takes it away.
func TestStrangersRowsReplaced(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	want := whole()
	run(t, "ip route add 10.244.2.0/24 via 192.0.2.1")
	run(t, "ip nexthop add id 17 via 192.0.2.1 dev eth0")
	try := func() {
		t.Helper()
		if _, err := k.Apply(t.Context(), backend.Diff(want, dump(t, k, want))); !errors.Is(err, unix.EEXIST) {
			t.Errorf("Apply = %v, want conflicts", err)
		}
	}
	try()
	dump(t, k, want)
	l := watching(t, h, want, k.Watch)
	run(t, "ip route replace 10.244.2.0/24 via 192.0.2.2")
	run(t, "ip nexthop replace id 17 via 192.0.2.2 dev eth0")
	l.hearsAll(t)
	try()
	if left := run(t, "ip route show 10.244.2.0/24") + run(t, "ip nexthop show id 17"); strings.Count(left, "via 192.0.2.2") != 2 {
		t.Errorf("the stranger's rows became\n%s", left)
	}
	for _, command := range []string{"ip nexthop del id 17", "ip route del 10.244.2.0/24"} {
		before := l.wakes.Load()
		run(t, command)
		l.hearsAll(t)
		if l.wakes.Load() == before {
			t.Errorf("%s: nobody was told", command)
		}
	}
	apply(t, k, want)
	same(t, k, want)
	// Ours is there now, and whoever replaces it does so by hand.
	run(t, "ip route replace 10.244.2.0/24 via 192.0.2.1")
	run(t, "ip nexthop replace id 17 via 192.0.2.1 dev eth0")
	l.hearsAll(t)
	apply(t, k, want)
	same(t, k, want)
}

// What happens while the tables are read for the first time may have been missed,
// whatever it was.
func TestWatchHearsBeforeTheFirstDump(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	l := watching(t, h, backend.State{}, k.Watch)
	run(t, "ip route add 198.18.0.0/15 via 192.0.2.1")
	if !l.woken(0) {
		t.Error("nobody was told")
	}
}
