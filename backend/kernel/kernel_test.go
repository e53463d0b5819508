package kernel

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/internal/root"
)

// host is a network namespace for one test, with an underlay device eth0.
type host struct{ ns netns.NsHandle }

// fresh makes a host and moves the test into it.
func fresh(t testing.TB) host {
	t.Helper()
	root.Require(t)
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	for _, command := range []string{
		// Or the kernel tells of a link-local address when it has looked for duplicates,
		// seconds later.
		"sysctl -qw net.ipv6.conf.default.accept_dad=0",
		"ip link set lo up",
		"ip link add eth0 type veth peer name far",
		"ip link set far up",
		"ip link set eth0 up",
		"ip addr add 192.0.2.10/24 dev eth0",
		"ip addr add 2001:db8::10/64 dev eth0 nodad",
	} {
		run(t, command)
	}
	return host{ns}
}

// enter moves a subtest, which has a goroutine of its own, into the host.
func (h host) enter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := netns.Set(h.ns); err != nil {
		t.Fatal(err)
	}
}

// outside is where the test program was started: the machine's own namespace,
// which no test may touch.
var outside, _ = netns.Get()

// inside stops a test that would touch the machine itself.
func inside(t testing.TB) {
	t.Helper()
	if here, err := netns.Get(); err != nil || here.Equal(outside) {
		t.Fatalf("the test is not in its network namespace (%v); call fresh or enter", err)
	} else {
		here.Close()
	}
}

// run runs a command in the test's namespace and returns what it prints.
func run(t testing.TB, command string) string {
	t.Helper()
	inside(t)
	args := strings.Fields(command)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func open(t *testing.T, jumps ...backend.Jump) *Kernel {
	t.Helper()
	inside(t)
	k, err := Open(Config{Owner: "tulle test", Jumps: jumps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

var (
	mac1 = backend.MAC{0x0a, 0, 0, 0, 0, 1}
	mac2 = backend.MAC{0x0a, 0, 0, 0, 0, 2}
)

func device() backend.Link {
	return backend.Link{
		Name: "tulle.1", Owner: "tulle test", Up: true, MAC: mac1, MTU: 1450,
		VNI: 1, Port: 8472, Local: netip.MustParseAddr("192.0.2.10"), Underlay: "eth0",
	}
}

func peer4() backend.State {
	gw := netip.MustParseAddr("10.244.2.0")
	return backend.NewState(
		backend.FDB{Dev: "tulle.1", MAC: mac2, Dst: netip.MustParseAddr("192.0.2.11")},
		backend.Neigh{Dev: "tulle.1", IP: gw, MAC: mac2},
		backend.Nexthop{ID: 17, Via: gw, Dev: "tulle.1", Onlink: true},
		backend.Route{Dst: netip.MustParsePrefix("10.244.2.0/24"), Nexthop: 17},
	)
}

func whole() backend.State {
	s := peer4()
	gw := netip.MustParseAddr("fd42:0:0:2::")
	s.Add(
		device(),
		backend.Sysctl{Name: "net/ipv4/ip_forward", Value: "1"},
		backend.Sysctl{Name: "net/no/such/setting", Value: "1", Optional: true},
		backend.Addr{Dev: "tulle.1", Prefix: netip.MustParsePrefix("10.244.1.0/32")},
		backend.Addr{Dev: "tulle.1", Prefix: netip.MustParsePrefix("fd42:0:0:1::/128")},
		backend.Neigh{Dev: "tulle.1", IP: gw, MAC: mac2},
		backend.Nexthop{ID: 18, Via: gw, Dev: "tulle.1", Onlink: true},
		backend.Route{Dst: netip.MustParsePrefix("fd42:0:0:2::/64"), Nexthop: 18},
		// A peer without a nexthop object, as on old kernels.
		backend.Neigh{Dev: "tulle.1", IP: netip.MustParseAddr("10.244.3.0"), MAC: mac2},
		backend.Route{Dst: netip.MustParsePrefix("10.244.3.0/24"), Via: netip.MustParseAddr("10.244.3.0"), Dev: "tulle.1", Onlink: true},
	)
	return s
}

func apply(t *testing.T, k *Kernel, want backend.State) []backend.Change {
	t.Helper()
	inside(t)
	changes := backend.Diff(want, dump(t, k, want))
	if _, err := k.Apply(t.Context(), changes); err != nil {
		t.Fatalf("apply: %v", err)
	}
	return changes
}

func dump(t *testing.T, k *Kernel, want backend.State) backend.State {
	t.Helper()
	inside(t)
	have := backend.State{}
	err := k.Dump(t.Context(), backend.AllKinds, want, func(kinds backend.Kinds, rows backend.State) {
		for key, row := range rows {
			if !kinds.Has(key.Kind) {
				t.Errorf("handed over with other kinds: %s", row)
			}
			have.Add(row)
		}
	})
	if err != nil {
		t.Fatalf("dump: %v", err)
	}
	return have
}

// same fails unless the kernel holds exactly what is wanted.
func same(t *testing.T, k *Kernel, want backend.State) {
	t.Helper()
	if changes := backend.Diff(want, dump(t, k, want)); len(changes) > 0 {
		t.Fatalf("the kernel does not hold what is wanted: %v\n%s%s", changes, run(t, "ip -d link show type vxlan"), run(t, "ip route"))
	}
}

func TestDumpAfterApplyIsWhatIsWanted(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	want := whole()
	apply(t, k, want)
	same(t, k, want)
	for command, line := range map[string]string{
		"ip -d link show tulle.1":             "vxlan id 1 local 192.0.2.10 dev eth0 srcport 0 0 dstport 8472 nolearning",
		"bridge fdb show dev tulle.1":         "0a:00:00:00:00:02 dst 192.0.2.11 self permanent",
		"ip neigh show dev tulle.1":           "10.244.2.0 lladdr 0a:00:00:00:00:02 PERMANENT",
		"ip nexthop show id 17":               "id 17 via 10.244.2.0 dev tulle.1 scope link proto 116 onlink",
		"ip route show 10.244.2.0/24":         "10.244.2.0/24 nhid 17 via 10.244.2.0 dev tulle.1 proto 116 onlink",
		"ip route show 10.244.3.0/24":         "10.244.3.0/24 via 10.244.3.0 dev tulle.1 proto 116 onlink",
		"ip -6 route show fd42:0:0:2::/64":    "fd42:0:0:2::/64 nhid 18 via fd42:0:0:2:: dev tulle.1 proto 116",
		"cat /proc/sys/net/ipv4/ip_forward":   "1",
		"ip -4 addr show dev tulle.1":         "inet 10.244.1.0/32",
		"ip route get 10.244.2.7":             "10.244.2.7 via 10.244.2.0 dev tulle.1 src 10.244.1.0",
		"ip link show dev tulle.1 type vxlan": "alias tulle test",
		"ip route get 10.244.3.7":             "via 10.244.3.0",
		"ip -6 neigh show dev tulle.1":        "fd42:0:0:2:: lladdr 0a:00:00:00:00:02 PERMANENT",
	} {
		if got := run(t, command); !strings.Contains(got, line) {
			t.Errorf("%s = %q, want it to contain %q", command, got, line)
		}
	}
}

// Whatever an administrator does to our rows, the next pass puts right, and
// nothing of what is right is written again.
func TestPassHeals(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	run(t, "ip link add br0 type bridge")
	k := open(t)
	want := whole()
	apply(t, k, want)
	for _, test := range []struct{ name, command string }{
		{"route deleted", "ip route del 10.244.2.0/24"},
		{"route replaced by one via the gateway", "ip route replace 10.244.2.0/24 via 10.244.2.0 dev tulle.1 onlink proto 116"},
		{"nexthop deleted, and its route with it", "ip nexthop del id 17"},
		{"nexthop altered", "ip nexthop replace id 17 via 10.244.9.0 dev tulle.1 onlink proto 116"},
		{"neighbour deleted", "ip neigh del 10.244.2.0 dev tulle.1"},
		{"neighbour with another MAC address", "ip neigh replace 10.244.2.0 lladdr 0a:00:00:00:00:99 dev tulle.1 nud permanent"},
		{"neighbour no longer permanent", "ip neigh replace 10.244.2.0 lladdr 0a:00:00:00:00:02 dev tulle.1 nud stale"},
		{"fdb row deleted", "bridge fdb del 0a:00:00:00:00:02 dev tulle.1"},
		{"fdb row to another host", "bridge fdb replace 0a:00:00:00:00:02 dev tulle.1 dst 192.0.2.99 self permanent"},
		{"fdb row to another port", "bridge fdb replace 0a:00:00:00:00:02 dev tulle.1 dst 192.0.2.11 port 4789 self permanent"},
		{"fdb row with another VNI", "bridge fdb replace 0a:00:00:00:00:02 dev tulle.1 dst 192.0.2.11 vni 77 self permanent"},
		{"fdb row by another device", "bridge fdb replace 0a:00:00:00:00:02 dev tulle.1 dst 192.0.2.11 via far self permanent"},
		{"fdb row too many", "bridge fdb add 0a:00:00:00:00:77 dev tulle.1 dst 192.0.2.77 self permanent"},
		{"address deleted", "ip addr del 10.244.1.0/32 dev tulle.1"},
		{"address too many", "ip addr add 10.99.0.1/32 dev tulle.1"},
		{"device down", "ip link set tulle.1 down"},
		{"device with another MAC address", "ip link set tulle.1 address 0a:00:00:00:00:66"},
		{"device with another MTU", "ip link set tulle.1 mtu 1400"},
		{"device without alias", "ip link set tulle.1 alias stolen"},
		{"device deleted", "ip link del tulle.1"},
		{"device put into a bridge", "ip link set tulle.1 master br0"},
		{"device learns", "ip link set tulle.1 type vxlan learning"},
		{"forwarding off", "sysctl -q net.ipv4.ip_forward=0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.enter(t)
			run(t, test.command)
			var all []backend.Change
			for range 2 { // a device that changes may take rows with it
				all = append(all, apply(t, k, want)...)
			}
			if len(all) == 0 {
				t.Error("the pass saw no difference")
			}
			same(t, k, want)
		})
	}
}

func TestForeignDeviceWithOurName(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	run(t, "ip link add tulle.1 type bridge")
	want := backend.NewState(device())
	apply(t, k, want)
	same(t, k, want)
}

func TestVNITaken(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	run(t, "ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.10 dev eth0 nolearning")
	_, err := k.Apply(t.Context(), []backend.Change{{Want: device()}})
	if err == nil || !strings.Contains(err.Error(), "ip link delete flannel.1") {
		t.Errorf("Apply = %v, want an error that names flannel.1 and how to remove it", err)
	}
}

func TestStrangersStay(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	run(t, "ip route add 10.244.2.0/24 via 192.0.2.1 proto static")
	run(t, "ip route add 10.1.0.0/16 via 192.0.2.1")
	run(t, "ip nexthop add id 99 via 192.0.2.1 dev eth0")
	run(t, "ip neigh add 192.0.2.1 lladdr 0a:00:00:00:00:88 dev eth0 nud permanent")
	want := peer4()
	want.Add(device())
	_, err := k.Apply(t.Context(), backend.Diff(want, dump(t, k, want)))
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "route 10.244.2.0/24") {
		t.Errorf("Apply = %v, want one conflict about 10.244.2.0/24", err)
	}
	if changes := backend.Diff(want, dump(t, k, want)); len(changes) != 1 {
		t.Errorf("after a conflict there are these differences: %v, want the route alone", changes)
	}
	if _, err := k.Apply(t.Context(), backend.Diff(backend.State{}, dump(t, k, want))); err != nil {
		t.Errorf("delete all that is ours: %v", err)
	}
	left := run(t, "ip route") + run(t, "ip nexthop") + run(t, "ip neigh show dev eth0")
	for _, row := range []string{"10.244.2.0/24 via 192.0.2.1 dev eth0 proto static", "10.1.0.0/16 via 192.0.2.1", "id 99 via 192.0.2.1", "192.0.2.1 lladdr 0a:00:00:00:00:88 PERMANENT"} {
		if !strings.Contains(left, row) {
			t.Errorf("stranger's row %q is gone; left is\n%s", row, left)
		}
	}
	if strings.Contains(left, "tulle") || strings.Contains(run(t, "ip link"), "tulle") {
		t.Errorf("rows of ours are left:\n%s", left)
	}
}

// Every refused change is told with the row it belongs to, among many that are
// not refused.
func TestErrorsNameTheirRow(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	apply(t, k, backend.NewState(device()))
	var changes []backend.Change
	bad := 0
	for i := range 3000 {
		a := netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0})
		nh := uint32(0)
		if i%1000 == 7 {
			nh = 4242 // there is no such nexthop
			bad++
		}
		changes = append(changes, backend.Change{Want: backend.Route{Dst: netip.PrefixFrom(a, 24), Nexthop: nh, Via: a, Dev: "tulle.1", Onlink: nh == 0}})
	}
	made, err := k.Apply(t.Context(), changes)
	if got := strings.Count(err.Error(), "nhid 4242: "); got != bad {
		t.Errorf("Apply named %d rows, want %d: %v", got, bad, err)
	}
	for _, c := range backend.Refused(err) {
		if c.Want.(backend.Route).Nexthop == 0 {
			t.Errorf("Apply says that %q was refused, which was not: %v", c, err)
		}
	}
	if len(made) != len(changes)-bad {
		t.Errorf("Apply says that it made %d changes, want %d", len(made), len(changes)-bad)
	}
	if got := len(dump(t, k, backend.State{})) - 1; got != len(changes)-bad {
		t.Errorf("the kernel has %d of the routes, want %d", got, len(changes)-bad)
	}
}

// What comes in a device's place is there before the device goes, and takes its
// rows with it: no packet is without a way meanwhile.
func TestDeviceGoesLast(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	tunnel := peer4()
	tunnel.Add(device())
	apply(t, k, tunnel)
	direct := backend.NewState(
		backend.Nexthop{ID: 17, Via: netip.MustParseAddr("192.0.2.11"), Dev: "eth0"},
		backend.Route{Dst: netip.MustParsePrefix("10.244.2.0/24"), Nexthop: 17},
	)
	apply(t, k, direct)
	same(t, k, direct)
}

// A stranger's nexthop object with the id of ours leads elsewhere, so no route of
// ours may take it.
func TestStrangersNexthop(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	want := peer4()
	want.Add(device())
	run(t, "ip nexthop add id 17 via 192.0.2.1 dev eth0 proto zebra")
	for range 2 {
		_, err := k.Apply(t.Context(), backend.Diff(want, dump(t, k, want)))
		var refused []string
		for _, c := range backend.Refused(err) {
			refused = append(refused, c.Want.String())
		}
		if text := strings.Join(refused, ", "); text != "nexthop id 17 via 10.244.2.0 dev tulle.1 onlink, route 10.244.2.0/24 nhid 17" {
			t.Errorf("refused are %s; want the nexthop and the route: %v", text, err)
		}
		if left := run(t, "ip route show 10.244.2.0/24"); left != "" {
			t.Errorf("a route leads to a stranger's nexthop: %s", left)
		}
	}
	run(t, "ip nexthop del id 17")
	apply(t, k, want)
	same(t, k, want)
}

// A device serves on while there is nothing to make the other one on: the underlay's
// device was given another name, and nobody has told us of it yet.
func TestDeviceStaysWithoutUnderlay(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	want := peer4()
	want.Add(device())
	apply(t, k, want)
	before := run(t, "ip -o link show tulle.1")
	for _, command := range []string{"ip link set eth0 down", "ip link set eth0 name wan0", "ip link set wan0 up"} {
		run(t, command)
	}
	if _, err := k.Apply(t.Context(), backend.Diff(want, dump(t, k, want))); err == nil || !strings.Contains(err.Error(), "underlay device eth0") {
		t.Errorf("Apply = %v, want an error about eth0", err)
	}
	renamed := device()
	renamed.Underlay = "wan0"
	want.Add(renamed)
	same(t, k, want)
	if after := run(t, "ip -o link show tulle.1"); after != before {
		t.Errorf("the device is\n%sand was\n%s", after, before)
	}
}

// What keeps our device from being made is told with what to do.
func TestDeviceCannotBe(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	refused := func(told string) {
		t.Helper()
		if _, err := k.Apply(t.Context(), []backend.Change{{Want: device()}}); err == nil || !strings.Contains(err.Error(), told) {
			t.Errorf("Apply = %v, want an error with %q", err, told)
		}
	}
	other, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	h.enter(t)
	run(t, "ip link add mine type vxlan id 1 dstport 8472 local 192.0.2.10 dev eth0")
	mine, err := k.links.LinkByName("mine")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.links.LinkSetNsFd(mine, int(other)); err != nil {
		t.Fatal(err)
	}
	refused("a device with VNI 1 and UDP port 8472 is in another network namespace")
	other.Close()

	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 8472})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	heldBack := func() error { // until the kernel has taken the other namespace away
		_, err := k.Apply(t.Context(), []backend.Change{{Want: device()}})
		if errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}
	for end := time.Now().Add(10 * time.Second); heldBack() != nil && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	run(t, "ip link del tulle.1")
	refused("something else uses UDP port 8472")
}
