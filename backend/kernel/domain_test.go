package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
)

// second is a network beside that of whole, some of whose peers are on our link.
func second() backend.State {
	dev := device()
	dev.Name, dev.Owner, dev.VNI, dev.MAC = "tulle.2", "tulle second", 2, mac2
	in := backend.Input{Nexthops: true}
	s := backend.NewState(dev)
	s.Add(in.RouteTo(netip.MustParsePrefix("10.99.2.0/24"), backend.Nexthop{Via: netip.MustParseAddr("192.0.2.11"), Dev: "eth0"})...)
	s.Add(in.RouteTo(netip.MustParsePrefix("fd99:0:0:2::/64"), backend.Nexthop{Via: netip.MustParseAddr("2001:db8::11"), Dev: "eth0"})...)
	for i := range 50 {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(100 + i), 0}), 24)
		s.Add(in.RouteTo(dst, backend.Nexthop{Via: netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}), Dev: "eth0"})...)
	}
	s.Add(in.RouteTo(netip.MustParsePrefix("10.99.3.0/24"), backend.Nexthop{Via: netip.MustParseAddr("10.99.3.0"), Dev: "tulle.2", Onlink: true})...)
	in.Nexthops = false
	s.Add(in.RouteTo(netip.MustParsePrefix("10.99.4.0/24"), backend.Nexthop{Via: netip.MustParseAddr("192.0.2.12"), Dev: "eth0"})...)
	return s
}

func openSecond(t *testing.T) *Kernel {
	t.Helper()
	inside(t)
	k, err := Open(Config{Owner: "tulle second"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	k.Own(netip.MustParsePrefix("10.99.0.0/16"), netip.MustParsePrefix("fd99::/48"))
	return k
}

// Two networks of one host mark their routes and nexthop objects alike, and
// neither takes those of the other for its own.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	one, two := open(t), openSecond(t)
	one.Own(netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd42::/48"))
	wantOne, wantTwo := whole(), second()
	apply(t, one, wantOne)
	dump(t, one, wantOne)
	l := watching(t, h, wantOne, one.Watch)
	apply(t, two, wantTwo)
	l.hearsAll(t)
	// The carrier of the underlay may come up meanwhile, and nobody can tell whose
	// an IPv6 nexthop object is.
	if got := l.wakes.Load(); got > 5 {
		t.Errorf("the %d rows of the second network woke the first %d times, want hardly ever", len(wantTwo), got)
	}
	same(t, one, wantOne)
	same(t, two, wantTwo)

	apply(t, one, backend.State{})
	same(t, two, wantTwo)
	apply(t, one, wantOne)
	apply(t, two, backend.State{})
	same(t, one, wantOne)
	left := run(t, "ip route") + run(t, "ip -6 route") + run(t, "ip nexthop") + run(t, "ip link")
	for _, row := range []string{"10.99.", "fd99:", "192.0.2.1", "2001:db8::1", "tulle.2"} {
		for line := range strings.Lines(left) {
			if strings.Contains(line, row) && !strings.Contains(line, "192.0.2.10") && !strings.Contains(line, "2001:db8::10") {
				t.Errorf("a row of the second network is left: %s", line)
			}
		}
	}
}

// What a daemon finds after its start of a network that it was in formerly goes,
// if it is told of that network.
func TestFormerNetwork(t *testing.T) {
	t.Parallel()
	fresh(t)
	want := second()
	apply(t, openSecond(t), want)
	k := open(t)
	if changes := backend.Diff(backend.State{}, dump(t, k, backend.State{})); len(changes) > 0 {
		t.Errorf("rows of another network are taken for ours: %v", changes)
	}
	k.Own(netip.MustParsePrefix("10.99.0.0/16"))
	apply(t, k, backend.State{})
	if left := run(t, "ip route") + run(t, "ip nexthop"); strings.Contains(left, "via 192.0.2.11") || strings.Contains(left, "via 192.0.2.12") {
		t.Errorf("rows of the former network are left:\n%s", left)
	}
	if left := run(t, "ip -6 route show fd99:0:0:2::/64"); !strings.Contains(left, "via 2001:db8::11") {
		t.Errorf("a row of a network that never was ours is gone: %q", left)
	}
}

// A device of our name that is another network's is not taken over, nor anything
// on it.
func TestDeviceOfAnotherNetwork(t *testing.T) {
	t.Parallel()
	fresh(t)
	theirs := whole()
	apply(t, open(t), theirs)
	look := func() string {
		all := run(t, "ip -d link show tulle.1") + run(t, "ip addr show tulle.1") + run(t, "bridge fdb show dev tulle.1") + run(t, "ip route")
		return strings.ReplaceAll(all, " tentative", "") // which ends by itself
	}
	before := look()

	k := openSecond(t)
	want := second()
	dev := device()
	dev.Owner, dev.MAC = "tulle second", mac2
	want.Add(dev)
	_, err := k.Apply(t.Context(), backend.Diff(want, dump(t, k, want)))
	if err == nil || !strings.Contains(err.Error(), `"tulle test"`) || !strings.Contains(err.Error(), "ip link delete tulle.1") {
		t.Errorf("Apply = %v, want an error that names the owner and what to do", err)
	}
	if after := look(); after != before {
		t.Errorf("after the refusal:\n%s\nbefore:\n%s", after, before)
	}
}

// A peer that is to be reached in another way keeps its route: what ip-monitor(8)
// tells is that its nexthop object changed, and nothing of routes.
func TestChangeOverKeepsRoutes(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	dst4, dst6 := netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd42:0:0:7::/64")
	state := func(dev string, via4, via6 string) backend.State {
		in := backend.Input{Nexthops: true}
		s := backend.NewState(device())
		s.Add(in.RouteTo(dst4, backend.Nexthop{Via: netip.MustParseAddr(via4), Dev: dev, Onlink: dev != "eth0"})...)
		s.Add(in.RouteTo(dst6, backend.Nexthop{Via: netip.MustParseAddr(via6), Dev: dev, Onlink: dev != "eth0"})...)
		return s
	}
	tunnel, direct := state("tulle.1", "10.244.7.0", "fd42:0:0:7::"), state("eth0", "192.0.2.11", "2001:db8::11")
	apply(t, k, tunnel)
	for _, want := range []backend.State{direct, tunnel, direct} {
		h.enter(t)
		for _, c := range apply(t, k, want) {
			if c.Key().Kind != backend.KindNexthop || !c.Replaces() {
				t.Errorf("to change over there is a step %q, want nexthops to be set alone", c)
			}
		}
		same(t, k, want)
	}
	for command, line := range map[string]string{
		"ip route get 10.244.7.7":          "10.244.7.7 via 192.0.2.11 dev eth0",
		"ip -6 route get fd42:0:0:7::7":    "via 2001:db8::11 dev eth0",
		"ip route show 10.244.7.0/24":      "10.244.7.0/24 nhid 183764736 via 192.0.2.11 dev eth0 proto 116",
		"ip -6 route show fd42:0:0:7::/64": "via 2001:db8::11 dev eth0 proto 116",
		"ip nexthop show id 183764736":     "id 183764736 via 192.0.2.11 dev eth0 scope link proto 116",
	} {
		if got := run(t, command); !strings.Contains(got, line) {
			t.Errorf("%s = %q, want it to contain %q", command, got, line)
		}
	}
}
