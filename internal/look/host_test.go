package look

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/internal/root"
	"tulle/internal/trace"
)

// inNetns runs a test in a network namespace of its own, which ends with it.
func inNetns(t *testing.T) {
	t.Helper()
	root.Require(t)
	runtime.LockOSThread() // and the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// TestOpenWhileDevicesComeAndGo: a table that changes while it is read is read
// again.
func TestOpenWhileDevicesComeAndGo(t *testing.T) {
	inNetns(t)
	for i := range 100 {
		addVeth(t, fmt.Sprintf("a%d", i))
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	over, churned := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		for i := 0; err == nil; i++ {
			select {
			case <-over:
				churned <- nil
				return
			default:
			}
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("b%d", i)}, PeerName: fmt.Sprintf("c%d", i)}
			if err = netlink.LinkAdd(link); err == nil {
				err = netlink.LinkDel(link)
			}
		}
		churned <- err
	}()
	for range 20 {
		h, err := Open()
		if err != nil {
			t.Errorf("Open: %v", err)
			break
		}
		if n := len(h.Links()); n < 201 {
			t.Errorf("%d devices, want 201 or more", n)
		}
	}
	close(over)
	if err := <-churned; err != nil {
		t.Fatal(err)
	}
}

// TestRoute: the route that the kernel uses, or what refuses the packet.
func TestRoute(t *testing.T) {
	for _, tt := range []struct{ name, do, src, dst, in, want string }{
		{"a route", "", "", "198.51.100.1", "", "default via 192.0.2.1 dev a0 table main proto boot"},
		{"a policy rule", "ip rule add from 10.244.0.0/16 prohibit pref 40", "10.244.1.2", "10.244.2.2", "b0", "policy rule pref 40 from 10.244.0.0/16 prohibit"},
		{"a policy rule for others", "ip rule add from 10.245.0.0/16 prohibit pref 40", "10.244.1.2", "198.51.100.1", "b0", "default via 192.0.2.1 dev a0 table main proto boot"},
		{"a policy rule that says unreachable", "ip rule add to 10.244.2.0/24 unreachable pref 50", "10.244.1.2", "10.244.2.2", "b0", "policy rule pref 50 to 10.244.2.0/24 unreachable"},
		{"a policy rule for IPv6", "ip -6 rule add to fd42:2::/64 blackhole pref 60", "", "fd42:2::1", "", "policy rule pref 60 to fd42:2::/64 blackhole"},
		{"a blackhole for all", "ip route add blackhole default table 99; ip rule add from 10.244.0.0/16 table 99 pref 40", "10.244.1.2", "10.244.2.2", "b0", "blackhole default table 99 proto boot"},
		{"a route that prohibits, and a blackhole", "ip route add prohibit 10.244.2.0/24; ip route add blackhole 10.244.2.0/25 table 99", "", "10.244.2.2", "", "prohibit 10.244.2.0/24 table main proto boot"},
		{"several ways, of which one is down", "ip route add 10.244.2.0/24 nexthop via 192.0.2.1 dev a0 nexthop via 198.18.0.2 dev b0; ip link set a0 down; ip link set a0p down", "", "10.244.2.2", "", "10.244.2.0/24 via 198.18.0.2 dev b0 table main proto boot"},
		{"an address of this host", "", "", "192.0.2.11", "", "local 192.0.2.11/32 dev a0 table local proto kernel"},
		{"none", "ip route del default", "", "198.51.100.1", "", "no route has it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNetns(t)
			addVeth(t, "a0")
			addVeth(t, "b0")
			script := `for d in lo a0 a0p b0 b0p; do ip link set $d up; done
ip address add 192.0.2.11/24 dev a0; ip address add 198.18.0.1/24 dev b0; ip route add default via 192.0.2.1
sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.conf.b0.rp_filter=0; sysctl -qw net.ipv4.conf.all.rp_filter=0
` + tt.do
			run(t, script)
			h, err := Open()
			if err != nil {
				t.Fatal(err)
			}
			q := trace.Question{Dst: netip.MustParseAddr(tt.dst), In: tt.in}
			if tt.src != "" {
				q.Src = netip.MustParseAddr(tt.src)
			}
			r, err := h.Route(q)
			got := r.String()
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func run(t *testing.T, script string) {
	t.Helper()
	if text, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func addVeth(t *testing.T, name string) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
}
