package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/internal/root"
)

// host makes a network namespace with another one behind a device eth0, and runs
// the test in it. The other, which is that of the process returned, has the
// addresses 192.0.2.2 and 2001:db8::2.
func host(t *testing.T) (far string) {
	t.Helper()
	root.Require(t)
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("unshare", "--net", "sh", "-c", "echo; cat")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = other.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is in its namespace
		t.Fatal(err)
	}
	script := `set -eu
ip link set lo up
ip link add eth0 mtu 1450 type veth peer name eth0 netns $1
ip addr add 192.0.2.1/24 dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip link set eth0 up
nsenter --net=/proc/$1/ns/net sh -eu -c '
ip addr add 192.0.2.2/24 dev eth0
ip addr add 2001:db8::2/64 dev eth0 nodad
ip link set eth0 mtu 1450 up'
`
	pid := strconv.Itoa(other.Process.Pid)
	sh(t, script, pid)
	return pid
}

// sh runs a script; its arguments are $1 and so on there.
func sh(t *testing.T, script string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-eu", "-c", script, "sh"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func TestLook(t *testing.T) {
	far := host(t)
	for _, tt := range []struct {
		name, fault string
		target      Target
		want        Verdict
	}{
		{"IPv4", "", target("192.0.2.2"), Good},
		{"IPv6", "", target("2001:db8::2"), Good},
		{"IPv4, large packets get lost", "nft add rule inet fault input meta length '>' 1400 drop", target("192.0.2.2"), Hole},
		{"IPv6, large packets get lost", "nft add rule inet fault input meta length '>' 1400 drop", target("2001:db8::2"), Hole},
		{"IPv4, wrong checksums", spoil, target("192.0.2.2"), Checksum},
		{"IPv6, wrong checksums", spoil, target("2001:db8::2"), Checksum},
		{"nobody there", "", target("192.0.2.99"), Silent},
		{"no route", "", target("198.51.100.1"), Silent},
		{"answered beside the overlay", "", Target{Overlay: netip.MustParseAddr("192.0.2.99"), Underlay: netip.MustParseAddr("192.0.2.2"), MTU: 1450}, Blocked},
		{"closed ports are kept quiet about", "nft add rule inet fault input tcp dport 9 drop", target("192.0.2.2"), Good},
	} {
		sh(t, `nsenter --net=/proc/$1/ns/net sh -eu -c "
nft add table inet fault
nft delete table inet fault
nft add table inet fault
nft add chain inet fault input '{ type filter hook input priority 0; }'
$2"`, far, tt.fault)
		s, err := Look(t.Context(), tt.target)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := s.Verdict(); got != tt.want {
			t.Errorf("%s: %+v means %s, want %s", tt.name, s, got, tt.want)
		}
		if s.Small == Answered && (s.RTT <= 0 || s.Lost != s.Sent-1) {
			t.Errorf("%s: RTT %s, %d of %d lost; want a time, and all lost but the last", tt.name, s.RTT, s.Lost, s.Sent)
		}
	}
}

// spoil drops segments whose checksum the device computes, which is what a wrong
// checksum comes to: those that the kernel makes have options.
const spoil = `nft add rule inet fault input tcp dport 9 tcp doff '>' 5 drop`

func TestLargest(t *testing.T) {
	far := host(t)
	const most = 1234
	sh(t, `nsenter --net=/proc/$1/ns/net sh -eu -c "
nft add table inet fault
nft add chain inet fault input '{ type filter hook input priority 0; }'
nft add rule inet fault input meta length '>' $2 drop"`, far, strconv.Itoa(most))
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		if got := Largest(t.Context(), target(addr)); got != most {
			t.Errorf("Largest of %s = %d, want %d", addr, got, most)
		}
	}
}

// TestWrapped has a VXLAN device at each end; the far kernel takes nothing with a
// wrong checksum.
func TestWrapped(t *testing.T) {
	far := host(t)
	const device = `ip link add tulle.1 address $1 type vxlan id 1 dstport 8472 local $2 dev eth0 nolearning udpcsum
ip address add $3/32 dev tulle.1
ip link set tulle.1 up
ip route add $4/32 dev tulle.1
ip neigh add $4 lladdr $5 dev tulle.1
bridge fdb add $5 dev tulle.1 dst $6`
	near, there := []string{"02:00:00:00:00:01", "192.0.2.1", "10.244.1.0"}, []string{"02:00:00:00:00:02", "192.0.2.2", "10.244.2.0"}
	sh(t, device, near[0], near[1], near[2], there[2], there[0], there[1])
	if out, err := exec.Command("nsenter", "--net=/proc/"+far+"/ns/net", "sh", "-euc", device, "sh", there[0], there[1], there[2], near[2], near[0], near[1]).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mac := func(text string) net.HardwareAddr {
		m, err := net.ParseMAC(text)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	addr := netip.MustParseAddr
	tunnel := Tunnel{VNI: 1, Port: 8472, Local: addr(near[1]), Remote: addr(there[1]), MAC: mac(near[0]), PeerMAC: mac(there[0])}
	if got, err := Wrapped(t.Context(), tunnel, addr(there[2])); got != Answered || err != nil {
		t.Errorf("Wrapped = %s, %v; want it answered", got, err)
	}
	other := tunnel
	other.VNI = 2
	if got, err := Wrapped(t.Context(), other, addr(there[2])); got != Lost || err != nil {
		t.Errorf("Wrapped for another VNI = %s, %v; want it lost", got, err)
	}
	if got, err := Wrapped(t.Context(), tunnel, addr("fd42::")); got != Untried || err != nil {
		t.Errorf("Wrapped for IPv6 = %s, %v; want it untried", got, err)
	}
}

// TestDatagram: what comes in with its checksum is the datagram of RFC 768.
func TestDatagram(t *testing.T) {
	t.Parallel()
	for _, addrs := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		src, dst := netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1])
		for _, data := range []string{"", "odd", "even"} {
			b := datagram(src, dst, 50000, 9, []byte(data))
			if sum := checksum(pseudo(src, dst, unix.IPPROTO_UDP, len(b)), b); sum != 0 {
				t.Errorf("%s to %s, %q: the checksum is off by %#x", src, dst, data, sum)
			}
		}
	}
}

func TestLookEndsWithItsContext(t *testing.T) {
	host(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Look(ctx, target("192.0.2.99")); err == nil {
		t.Error("Look = nil after its context ended")
	}
}

func TestLookWithoutRight(t *testing.T) {
	host(t)
	// Of this thread alone, which ends with the test.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(t.Context(), target("192.0.2.2")); !errors.Is(err, ErrNoSocket) {
		t.Errorf("Look = %v, want %v", err, ErrNoSocket)
	}
}

func target(a string) Target {
	addr := netip.MustParseAddr(a)
	return Target{Overlay: addr, Underlay: addr, MTU: 1450}
}
