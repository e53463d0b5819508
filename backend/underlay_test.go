package backend_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/subnet"
)

func candidate(dev string, metric int, addrs ...string) backend.Candidate {
	c := backend.Candidate{Dev: dev, MTU: 1500, Metrics: [2]int{backend.NoDefault, backend.NoDefault}}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a)
		c.Addrs, c.Metrics[subnet.FamilyOf(p.Addr())] = append(c.Addrs, p), metric
	}
	return c
}

var (
	fourFirst = []subnet.Family{subnet.IPv4, subnet.IPv6}
	sixFirst  = []subnet.Family{subnet.IPv6, subnet.IPv4}
	sixOnly   = []subnet.Family{subnet.IPv6}
)

func TestChooseUnderlay(t *testing.T) {
	t.Parallel()
	nat := candidate("eth0", 100, "10.0.2.15/24") // the same on every Vagrant machine
	private := candidate("eth1", backend.NoDefault, "192.0.2.10/24", "192.0.2.20/24", "2001:db8::10/64")
	six := candidate("eth2", 200, "2001:db8:1::10/64")
	all := []backend.Candidate{nat, private, six}
	two := candidate("eth0", 1024, "2001:db8::10/64", "2001:db8::20/128")
	hop := func(dev, src string) backend.Hop { return backend.Hop{Dev: dev, Src: netip.MustParseAddr(src)} }
	for _, test := range []struct {
		name       string
		candidates []backend.Candidate
		wish       backend.Wish
		want, why  string // device and address; or what the error contains
	}{
		{"nothing wished: the device that reaches etcd", all, backend.Wish{Etcd: hop("eth1", "192.0.2.20")}, "eth1 192.0.2.20", "it reaches etcd"},
		{"etcd on this host at an address for others: the device that has it", all, backend.Wish{Etcd: hop("lo", "192.0.2.20")}, "eth1 192.0.2.20", "etcd is at its address"},
		{"etcd on this host at an address of its own: the default route's", all, backend.Wish{Etcd: hop("lo", "127.0.0.1")}, "eth0 10.0.2.15", "it has the default route"},
		{"etcd on this host: the default route's", all, backend.Wish{}, "eth0 10.0.2.15", "it has the default route"},
		{"two default routes: the better one", []backend.Candidate{six, nat}, backend.Wish{}, "eth0 10.0.2.15", "it has the default route"},
		{"IPv6 alone", []backend.Candidate{six}, backend.Wish{}, "eth2 2001:db8:1::10", "it has the default route"},
		{"by name", all, backend.Wish{Ifaces: []string{"eth1"}}, "eth1 192.0.2.10", "--iface=eth1"},
		{"by address", all, backend.Wish{Ifaces: []string{"192.0.2.20"}}, "eth1 192.0.2.20", "--iface=192.0.2.20"},
		{"the first that exists", all, backend.Wish{Ifaces: []string{"bond0", "eth2", "eth0"}}, "eth2 2001:db8:1::10", "--iface=eth2"},
		{"by expression for a name", all, backend.Wish{Regex: regexp.MustCompile("^eth1$")}, "eth1 192.0.2.10", "--iface-regex=^eth1$"},
		{"by expression for an address", all, backend.Wish{Regex: regexp.MustCompile(`^192\.0\.2\.2`)}, "eth1 192.0.2.20", `--iface-regex=^192\.0\.2\.2`},
		{"by what it reaches", all, backend.Wish{CanReach: hop("eth1", "192.0.2.10")}, "eth1 192.0.2.10", "--iface-can-reach"},
		{"by its own address", all, backend.Wish{CanReach: hop("lo", "192.0.2.10")}, "eth1 192.0.2.10", "--iface-can-reach"},

		{"packets over IPv6: its default route", []backend.Candidate{nat, six}, backend.Wish{Families: sixOnly}, "eth2 2001:db8:1::10", "it has the default route"},
		{"packets over IPv6: the device that reaches etcd has none", all, backend.Wish{Families: sixOnly, Etcd: hop("eth0", "10.0.2.15")}, "eth2 2001:db8:1::10", "it has the default route"},
		{"packets over IPv6, of a device with both", all, backend.Wish{Families: sixOnly, Ifaces: []string{"eth1"}}, "eth1 2001:db8::10", "--iface=eth1"},
		{"packets over IPv6, by an address of IPv4", all, backend.Wish{Families: sixOnly, Ifaces: []string{"192.0.2.20"}}, "eth1 2001:db8::10", "--iface=192.0.2.20"},
		{"IPv6 rather than IPv4", []backend.Candidate{nat, six}, backend.Wish{Families: sixFirst}, "eth2 2001:db8:1::10", "it has the default route"},
		{"IPv6 rather than IPv4, and there is none", []backend.Candidate{nat}, backend.Wish{Families: sixFirst}, "eth0 10.0.2.15", "it has the default route"},
		{"a second address, which the kernel would send from now", []backend.Candidate{two}, backend.Wish{Families: sixOnly, Etcd: hop("eth0", "2001:db8::20"), Had: [2]netip.Addr{subnet.IPv6: two.Addrs[0].Addr()}},
			"eth0 2001:db8::10", "it reaches etcd"},
		{"the address that it had is gone", []backend.Candidate{two}, backend.Wish{Families: sixOnly, Etcd: hop("eth0", "2001:db8::20"), Had: [2]netip.Addr{subnet.IPv6: netip.MustParseAddr("2001:db8::5")}},
			"eth0 2001:db8::20", "it reaches etcd"},
		{"an address for a day, which the kernel sends from", []backend.Candidate{two}, backend.Wish{Families: sixOnly, Etcd: hop("eth0", "2001:db8::abcd:1234")}, "eth0 2001:db8::10", "it reaches etcd"},
		{"etcd's name can't be looked up: the device of before", all, backend.Wish{Stay: true, Had: [2]netip.Addr{netip.MustParseAddr("192.0.2.20")}}, "eth1 192.0.2.20", "it was chosen before, and nobody tells the address of etcd's name"},
		{"etcd's name can't be looked up, and no device has the address of before", all, backend.Wish{Stay: true, Had: [2]netip.Addr{netip.MustParseAddr("192.0.2.99")}}, "eth0 10.0.2.15", "it has the default route"},
		{"one of etcd's names can't be looked up", all, backend.Wish{Stay: true, Etcd: hop("eth0", "10.0.2.15"), Had: [2]netip.Addr{netip.MustParseAddr("192.0.2.20")}}, "eth0 10.0.2.15", "it reaches etcd"},
		{"a wished address before the one that it had", all, backend.Wish{Ifaces: []string{"192.0.2.20"}, Had: [2]netip.Addr{netip.MustParseAddr("192.0.2.10")}}, "eth1 192.0.2.20", "--iface=192.0.2.20"},

		{"packets over IPv6, of a device without", all, backend.Wish{Families: sixOnly, Ifaces: []string{"eth0"}}, "eth0 (10.0.2.15, default route) has no IPv6 address", "--iface=eth0"},
		{"packets over IPv6, and no default route", []backend.Candidate{nat}, backend.Wish{Families: sixOnly}, "no device has a default route of IPv6", ""},
		{"no such device", all, backend.Wish{Ifaces: []string{"eth9"}},
			"--iface: no device has the name or the address eth9; there are: eth0 (10.0.2.15, default route), eth1 (192.0.2.10, 192.0.2.20, 2001:db8::10), eth2 (2001:db8:1::10, default route)", ""},
		{"no device at all", nil, backend.Wish{}, "no device but the loopback device is up and has an address", ""},
		{"an expression for nothing", all, backend.Wish{Regex: regexp.MustCompile("bond")}, `--iface-regex: nothing matches "bond"`, ""},
		{"an expression for two", all, backend.Wish{Regex: regexp.MustCompile("eth[12]")}, "matches eth1 (192.0.2.10, 192.0.2.20, 2001:db8::10), eth2 (2001:db8:1::10, default route); choose one with --iface", ""},
		{"two equally good default routes", []backend.Candidate{nat, candidate("wlan0", 100, "198.51.100.7/24")}, backend.Wish{},
			"equally good default routes: eth0 (10.0.2.15, default route), wlan0 (198.51.100.7, default route); choose one with --iface", ""},
		{"no default route", []backend.Candidate{private}, backend.Wish{}, "no device has a default route; choose one with --iface; there are: eth1", ""},
		{"what is to be reached is this host itself", all, backend.Wish{CanReach: hop("lo", "127.0.0.1")}, "--iface-can-reach: that address is reached by lo", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.wish.Families == nil {
				test.wish.Families = fourFirst
			}
			u, why, err := backend.ChooseUnderlay(test.candidates, test.wish)
			got := u.Dev + " " + u.Addr().String()
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != test.want || !strings.Contains(got, test.want) || why != test.why {
				t.Errorf("ChooseUnderlay = %s, %q, want %s, %q", got, why, test.want, test.why)
			}
		})
	}
}

// TestOutside: addresses of pods are no way to other nodes, and a device that has
// others besides is one all the same.
func TestOutside(t *testing.T) {
	t.Parallel()
	n, err := subnet.ParseNetwork([]byte(`{"Network": "10.244.0.0/16"}`))
	if err != nil {
		t.Fatal(err)
	}
	rest, inside := backend.Outside([]backend.Candidate{
		candidate("eth0", 0, "192.0.2.11/24", "10.244.57.77/24"),
		candidate("eth1", 0, "10.244.9.9/24"),
		candidate("cni0", backend.NoDefault, "10.244.1.1/24"),
		candidate("tulle.1", backend.NoDefault, "10.244.1.0/32"),
	}, n)
	if got, want := backend.Names(rest), "eth0 (192.0.2.11, default route)"; got != want {
		t.Errorf("outside are %s, want %s", got, want)
	}
	if got, want := backend.Names(inside), "eth1 (10.244.9.9, default route)"; got != want {
		t.Errorf("inside are %s, want %s", got, want)
	}
}

func TestUnderlayHasBothFamilies(t *testing.T) {
	t.Parallel()
	u, _, err := backend.ChooseUnderlay([]backend.Candidate{candidate("eth1", 0, "2001:db8::10/64", "192.0.2.10/24")}, backend.Wish{Families: fourFirst})
	if err != nil || u.Addrs[subnet.IPv4] != netip.MustParseAddr("192.0.2.10") || u.Addrs[subnet.IPv6] != netip.MustParseAddr("2001:db8::10") {
		t.Errorf("underlay = %+v, %v, want both addresses", u, err)
	}
	if !u.OnLink(netip.MustParseAddr("192.0.2.99")) || u.OnLink(netip.MustParseAddr("198.51.100.1")) {
		t.Error("OnLink does not follow the device's prefixes")
	}
}
