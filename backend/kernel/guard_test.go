package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/subnet"
)

func guard(mode backend.GuardMode) backend.Guard {
	return backend.Guard{Dev: "tulle.1", Mode: mode, Port: 8472, VNI: 1, Lens: [2]int{24, 64}}
}

func source(vtep string, subnets ...string) backend.Source {
	s := backend.Source{Dev: "tulle.1", VTEP: netip.MustParseAddr(vtep)}
	for _, text := range subnets {
		p := netip.MustParsePrefix(text)
		f := subnet.FamilyOf(p.Addr())
		s.Subnets[f] = p
		s.Odd = s.Odd || p.Bits() != guard(backend.GuardStrict).Lens[f]
	}
	return s
}

// guarded is a node with peers of one family, of both, and with subnets of a
// length that is not the usual.
func guarded(mode backend.GuardMode) backend.State {
	return backend.NewState(
		guard(mode),
		source("192.0.2.11", "10.244.2.0/24"),
		source("192.0.2.12", "10.244.3.0/24", "fd42:0:0:3::/64"),
		source("192.0.2.13", "10.244.4.0/22", "fd42:0:0:4::/64"),
		source("192.0.2.14", "10.244.8.128/25"),
		source("192.0.2.15", "fd42:0:0:5::/64"),
	)
}

func guarded6() backend.State {
	g := guard(backend.GuardStrict)
	g.VTEPs = subnet.IPv6
	return backend.NewState(g,
		source("2001:db8::11", "10.244.2.0/24", "fd42:0:0:2::/64"),
		source("2001:db8::12", "10.244.3.0/25", "fd42:0:0:4::/63"),
	)
}

func TestGuardDumpAfterApplyIsWhatIsWanted(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	if err := k.CanGuard(); err != nil {
		t.Fatal(err)
	}
	if left := run(t, "nft list tables"); strings.Contains(left, "tulle") {
		t.Errorf("after the question whether there can be a guard, there is %s", left)
	}
	for name, want := range map[string]backend.State{
		"strict": guarded(backend.GuardStrict), "vtep": guarded(backend.GuardVTEP), "IPv6 underlay": guarded6(), "off": {},
	} {
		apply(t, k, want)
		same(t, k, want)
		if again := apply(t, k, want); len(again) > 0 {
			t.Errorf("%s: the second pass changes %v", name, again)
		}
	}
	apply(t, k, guarded(backend.GuardStrict))
	apply(t, k, backend.State{})
	if left := run(t, "nft list ruleset"); strings.Contains(left, "tulle") {
		t.Errorf("when nothing is wanted, there is\n%s", left)
	}
}

// Whatever is done to a guard, the next pass puts it right, and the watcher asks
// for that pass.
func TestGuardHeals(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	want := guarded(backend.GuardStrict)
	apply(t, k, want)
	l := watching(t, h, want, k.WatchRules)
	for _, test := range []struct{ name, command string }{
		{"a VTEP deleted", "delete element inet tulle.1 vteps.ip { 192.0.2.11 }"},
		{"a VTEP too many", "add element inet tulle.1 vteps.ip { 192.0.2.66 }"},
		{"a source deleted", "delete element inet tulle.1 sources.ip.ip.24 { 192.0.2.11 . " + number("10.244.2.0") + " }"},
		{"a peer's source for another peer", "add element inet tulle.1 sources.ip.ip.24 { 192.0.2.12 . " + number("10.244.2.0") + " }"},
		{"three sources too many for one VTEP", "add element inet tulle.1 sources.ip.ip.24 { 192.0.2.12 . " + number("10.244.77.0") + ", 192.0.2.12 . " + number("10.244.78.0") + ", 192.0.2.12 . " + number("10.244.79.0") + " }"},
		{"a source that is no subnet's first address", "add element inet tulle.1 sources.ip.ip.24 { 192.0.2.12 . " + number("10.244.3.7") + " }"},
		{"a source for a stranger", "add element inet tulle.1 sources.ip.ip6.64 { 192.0.2.66 . " + number("fd42:0:0:3::") + " }"},
		{"a source of another length deleted", "delete element inet tulle.1 sources.ip.ip.odd { 192.0.2.13 . " + numbers("10.244.4.0/22") + " }"},
		{"a source of another length too many", "add element inet tulle.1 sources.ip.ip.odd { 192.0.2.11 . " + numbers("10.0.0.0/8") + " }"},
		{"every VTEP allowed", "add element inet tulle.1 vteps.ip { * }"},
		{"every source allowed", "add element inet tulle.1 sources.ip.ip.24 { * }"},
		{"a range that is no prefix", "add element inet tulle.1 sources.ip.ip.odd { 192.0.2.11 . " + number("10.0.0.7") + "-" + number("10.0.0.9") + ", 192.0.2.11-192.0.2.13 . " + number("10.0.1.0") + " }"},
		{"VTEPs flushed", "flush set inet tulle.1 vteps.ip"},
		{"sources flushed", "flush set inet tulle.1 sources.ip.ip.24"},
		{"sources of other lengths flushed", "flush set inet tulle.1 sources.ip.ip.odd"},
		{"the hook's rule deleted", "flush chain inet tulle.1 input"},
		{"all rules deleted", "flush table inet tulle.1"},
		{"a rule in front", "insert rule inet tulle.1 vxlan accept"},
		{"a rule behind", "add rule inet tulle.1 input drop"},
		{"another policy", "add chain inet tulle.1 input { policy drop; }"},
		{"hook with another priority", "delete chain inet tulle.1 input; add chain inet tulle.1 input { type filter hook input priority 77; }; add rule inet tulle.1 input meta nfproto ipv4 udp dport 8472 goto vxlan"},
		{"hook for another port", "flush chain inet tulle.1 input; add rule inet tulle.1 input meta nfproto ipv4 udp dport 8473 goto vxlan"},
		{"chains deleted", "delete chain inet tulle.1 input; delete chain inet tulle.1 vxlan"},
		{"table asleep", "add table inet tulle.1 { flags dormant; }"},
		{"table deleted", "delete table inet tulle.1"},
		{"everything deleted", "flush ruleset"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.enter(t)
			settle()
			before := l.wakes.Load()
			nft(t, test.command)
			if !l.woken(before) {
				t.Error("nobody heard of it")
			}
			if len(apply(t, k, want)) == 0 {
				t.Error("the pass saw no difference")
			}
			same(t, k, want)
			settle()
			before = l.wakes.Load()
			apply(t, k, want)
			settle()
			if got := l.wakes.Load(); got != before {
				t.Errorf("own changes woke %d times", got-before)
			}
		})
	}
}

// number is an address as nft(8) writes it in our sets, and numbers a prefix.
func number(addr string) string { return fmt.Sprintf("0x%x", netip.MustParseAddr(addr).AsSlice()) }

func numbers(prefix string) string {
	p := netip.MustParsePrefix(prefix)
	return number(p.Addr().String()) + "-" + number(lastAddr(p).String())
}

// nft runs commands of nft(8) as one transaction.
func nft(t *testing.T, commands string) {
	t.Helper()
	inside(t)
	file := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(commands, "; ", "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nft -f "+file)
}

func TestGuardIgnoresOwnChanges(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	want := guarded(backend.GuardStrict)
	dump(t, k, want)
	l := watching(t, h, want, k.WatchRules)
	apply(t, k, want)
	nft(t, "add table inet other; add chain inet other x; add rule inet other x accept")
	apply(t, k, backend.State{})
	settle()
	if got := l.wakes.Load(); got > 1 {
		// One is for the table that is deleted: iptables' rules might be in it.
		t.Errorf("own changes and those of strangers woke %d times", got)
	}
}

// The rows of a device that is no longer wanted go, those of others stay.
func TestGuardOwnsItsTables(t *testing.T) {
	t.Parallel()
	fresh(t)
	before := open(t)
	old := backend.NewState()
	for _, e := range guarded(backend.GuardStrict) {
		switch e := e.(type) {
		case backend.Guard:
			e.Dev = "tulle.7"
			old.Add(e)
		case backend.Source:
			e.Dev = "tulle.7"
			old.Add(e)
		}
	}
	apply(t, before, old)
	other, err := Open(Config{Owner: "another tulle"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	apply(t, other, guarded(backend.GuardStrict))
	same(t, before, old)

	k := open(t)
	apply(t, k, backend.State{})
	if left := run(t, "nft list tables"); strings.Contains(left, "tulle.7") || !strings.Contains(left, "tulle.1") {
		t.Errorf("left is %s; want tulle.1, which is another's, and not tulle.7", left)
	}
}

// peers are n rows as of a large cluster.
func peers(n int) []backend.Source {
	rows := make([]backend.Source, n)
	for i := range rows {
		rows[i] = backend.Source{Dev: "tulle.1", VTEP: netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})}
		rows[i].Subnets[subnet.IPv4] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100 + byte(i>>8), byte(i), 0}), 24)
		rows[i].Subnets[subnet.IPv6] = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x42, 6: byte(i >> 8), 7: byte(i)}), 64)
	}
	return rows
}

func TestGuardOfLargeCluster(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	want := backend.NewState(guard(backend.GuardStrict))
	for _, s := range peers(10000) {
		want.Add(s)
	}
	apply(t, k, want)
	same(t, k, want)
	// The lengths change, so every row is in other sets.
	g := guard(backend.GuardStrict)
	g.Lens = [2]int{25, 65}
	want.Add(g)
	for i, s := range peers(10000) {
		s.Odd = i%100 == 0
		if i%7 == 0 {
			s.Subnets[subnet.IPv6] = netip.Prefix{}
		}
		want.Add(s)
	}
	apply(t, k, want)
	same(t, k, want)
	if n := len(apply(t, k, backend.State{})); n != 10001 {
		t.Errorf("%d rows are deleted, want 10001", n)
	}
}

// A change that the kernel refuses is told with its row, and the others are made.
func TestGuardErrorsNameTheirRow(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	apply(t, k, backend.NewState(guard(backend.GuardStrict), source("192.0.2.11", "10.244.0.0/22")))
	var changes []backend.Change
	for _, s := range peers(1000) {
		changes = append(changes, backend.Change{Want: s})
	}
	// Ranges must not overlap in part.
	bad := source("192.0.2.11", "10.244.0.0/23")
	changes[700] = backend.Change{Want: bad}
	_, err := k.Apply(t.Context(), changes)
	var refused *backend.ChangeError
	if !errors.As(err, &refused) || refused.Change.Want != bad || strings.Count(err.Error(), "\n") != 0 {
		t.Fatalf("Apply = %v, want one error, about %s", err, bad)
	}
	if got := len(dump(t, k, backend.State{})); got != 1+1+999 {
		t.Errorf("the kernel has %d rows, want 1001", got)
	}
}

// A restart, another mode and a rule put right leave the counters as they are.
func TestGuardKeepsCounters(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	apply(t, k, guarded(backend.GuardStrict))
	nft(t, "add rule inet tulle.1 input counter name unknown-vtep")
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Logf("port unreachable, as it should be: %v", err)
		}
	}
	seen, _, err := k.Drops()
	if err != nil || seen < 3 {
		t.Fatalf("Drops = %d, %v, want 3 at least", seen, err)
	}
	apply(t, k, guarded(backend.GuardVTEP))
	k = open(t)
	apply(t, k, guarded(backend.GuardStrict))
	dump(t, k, guarded(backend.GuardStrict))
	if got, _, err := k.Drops(); got != seen || err != nil {
		t.Errorf("Drops = %d, %v, want %d as before", got, err, seen)
	}
}

func TestAddrSetNames(t *testing.T) {
	for _, name := range []string{"vteps.ip", "vteps.ip6", "sources.ip.ip.24", "sources.ip6.ip6.128", "sources.ip.ip6.odd"} {
		if s, ok := parseAddrSet(name); !ok || s.name() != name {
			t.Errorf("parseAddrSet(%q) = %v, %t", name, s, ok)
		}
	}
	for _, name := range []string{"", "vteps.ipx", "sources.ip.ip.0", "sources.ip.ip.33", "sources.ip.ip.024", "sources.ip.ip.24x", "sources.ip.ip.-1"} {
		if s, ok := parseAddrSet(name); ok {
			t.Errorf("parseAddrSet(%q) = %v, want it refused", name, s)
		}
	}
}

// What nft(8) shows of a guard it can load again, and that is the guard.
func TestGuardSavedAndLoaded(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	for _, want := range []backend.State{guarded(backend.GuardStrict), guarded(backend.GuardVTEP), guarded6()} {
		apply(t, k, want)
		nft(t, "flush ruleset\n"+run(t, "nft list ruleset"))
		if changes := apply(t, k, want); len(changes) > 0 {
			t.Errorf("after nft list ruleset and nft -f, a pass changes %v", changes)
		}
		same(t, k, want)
	}
}

// On a kernel without netfilter nothing is read, and what can't be is told.
func TestGuardWithoutNetfilter(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	k.nftables.close()
	k.nftables.conn = nil
	if err := k.CanGuard(); !errors.Is(err, ErrNoGuard) {
		t.Errorf("CanGuard = %v, want %v", err, ErrNoGuard)
	}
	if have := dump(t, k, guarded(backend.GuardStrict)); len(have) > 0 {
		t.Errorf("Dump = %v, want nothing", have)
	}
	_, err := k.Apply(t.Context(), backend.Diff(guarded(backend.GuardStrict), backend.State{}))
	if !errors.Is(err, ErrNoGuard) || strings.Count(err.Error(), "\n") != len(guarded(backend.GuardStrict))-1 {
		t.Errorf("Apply = %v, want %v for each row", err, ErrNoGuard)
	}
	if unknown, wrong, err := k.Drops(); unknown+wrong > 0 || err != nil {
		t.Errorf("Drops = %d, %d, %v, want nothing", unknown, wrong, err)
	}
}
