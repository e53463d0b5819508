package kernel

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// settings6 is what a VXLAN device with IPv6 needs.
func settings6() backend.State {
	s := whole()
	for name, value := range map[string]string{"disable_ipv6": "0", "forwarding": "1", "accept_ra": "0", "addr_gen_mode": "1"} {
		s.Add(backend.Sysctl{Name: "net/ipv6/conf/tulle.1/" + name, Value: value, Optional: true, Ours: true})
	}
	return s
}

// A host that has IPv6 switched off for all devices, and for those to come, can
// carry the pods' IPv6 nevertheless.
func TestDeviceHasIPv6WhereItIsOff(t *testing.T) {
	t.Parallel()
	fresh(t)
	run(t, "sysctl -q net.ipv6.conf.all.disable_ipv6=1")
	k := open(t)
	want := settings6()
	apply(t, k, want)
	same(t, k, want)
	if text := run(t, "ip -6 address show dev tulle.1"); !strings.Contains(text, "inet6 fd42:0:0:1::/128") {
		t.Errorf("tulle.1 has no address:\n%s", text)
	}
	if text := run(t, "sysctl -n net.ipv6.conf.all.disable_ipv6 net.ipv6.conf.eth0.disable_ipv6"); text != "1\n1\n" {
		t.Errorf("IPv6 is switched on where it was off: %q", text)
	}
	run(t, "sysctl -q net.ipv6.conf.all.disable_ipv6=0")
	run(t, "sysctl -q net.ipv6.conf.all.disable_ipv6=1") // also ours, with its addresses and routes
	apply(t, k, want)
	same(t, k, want)
}

// What is wanted of a device is there before it is up, in one pass: it never has
// a link-local address, for which it would send to everybody on the link.
func TestDeviceIsPrepared(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	want := settings6()
	for range 2 {
		apply(t, k, want)
		same(t, k, want)
		if text := run(t, "ip -6 address show dev tulle.1"); strings.Contains(text, "fe80:") {
			t.Errorf("tulle.1 has a link-local address:\n%s", text)
		}
		run(t, "ip link del tulle.1")
	}
}

// Where /proc/sys is read-only, as in some containers, the message names what
// sysctl.d(5) takes: behind a slash the dots of a device's name stay dots.
func TestSysctlNotAllowed(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	apply(t, k, backend.NewState(device()))
	if err := errors.Join(
		unix.Unshare(unix.CLONE_NEWNS), // of this thread, which ends with the test
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""),
	); err != nil {
		t.Fatal(err)
	}
	err := writeSysctl(backend.Forwarding(subnet.IPv4, "tulle.1"))
	if err == nil || !strings.Contains(err.Error(), "set net/ipv4/conf/tulle.1/forwarding = 1 in /etc/sysctl.d") {
		t.Errorf("the error is %v, want it to say what to set where", err)
	}
}
