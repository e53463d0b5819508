package main

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// A pod with an address and a MAC goes, another comes with the address and another
// MAC, and the host's old entry must not stand in the way. The last one has the MAC
// that follows from the address.
func TestReusedAddressWorksAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, twoFamilies)
	list := h.conf("1.1.0", "")
	h.mustAdd(list, newPod(t, "stays")) // without a port the bridge would forget its neighbours
	for _, mac := range []string{"0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:58:0a:f4:3c:09"} {
		p := newPod(t, "pod1")
		p.args = [][2]string{{"IP", "10.244.60.9,fd42:0:0:3::9"}}
		if mac != macOf(prefix("10.244.60.9/24")).String() {
			p.args = append(p.args, [2]string{"MAC", mac})
		}
		h.mustAdd(list, p)
		br, err := h.LinkByName("cni0")
		if err != nil {
			t.Fatal(err)
		}
		if mac != "0a:00:00:00:00:01" {
			// Before anything is sent: the announcement puts the new MAC there, as soon
			// as the kernel has dealt with it.
			for _, ip := range []string{"10.244.60.9", "fd42:0:0:3::9"} {
				found := ""
				for until := time.Now().Add(5 * time.Second); found != mac && time.Now().Before(until); time.Sleep(time.Millisecond) {
					found = h.neighbour(br, ip)
				}
				if found != mac {
					t.Errorf("neighbour %s is %q, want %s", ip, found, mac)
				}
			}
		}
		echo(t, h.ns, p.ns, addrOf("10.244.60.9"))
		echo(t, h.ns, p.ns, addrOf("fd42:0:0:3::9"))
		if err := h.del(list, p); err != nil {
			t.Fatal(err)
		}
	}
}

// neighbour is the MAC that the host knows of an address.
func (h *host) neighbour(on netlink.Link, ip string) string {
	h.Helper()
	neighs, err := dump(func() ([]netlink.Neigh, error) { return h.NeighList(on.Attrs().Index, 0) })
	if err != nil {
		h.Fatal(err)
	}
	for _, n := range neighs {
		if n.IP.String() == ip {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

func TestOnlyAddressesThatMayBeKnownOtherwiseAreAnnounced(t *testing.T) {
	t.Parallel()
	d, err := openDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	i := &ipam{d, "tulle"}
	four := span{Bridge: prefix("10.0.0.1/24"), First: addrOf("10.0.0.2"), Last: addrOf("10.0.0.9")}
	six := span{Bridge: prefix("fd42::1/64"), First: addrOf("fd42::2"), Last: addrOf("fd42::9")}
	const asked = "10.0.0.5"
	steps := []struct {
		name   string
		spans  [2]span
		ownMAC bool
		want   []bool
	}{
		{"an address that nobody had", [2]span{four}, false, []bool{false}},
		{"the same again", [2]span{four}, false, []bool{false}},
		{"with a MAC of its own", [2]span{four}, true, []bool{true}},
		{"after one with a MAC of its own", [2]span{four}, false, []bool{true}},
		{"after that", [2]span{four}, false, []bool{false}},
		{"two families, of which the MAC follows from the first", [2]span{four, six}, false, []bool{false, true}},
		{"beside a pod of another plugin", [2]span{four}, false, []bool{true}},
		{"after a pod of another plugin", [2]span{four}, false, []bool{true}},
	}
	for n, s := range steps {
		a := attachment{s.name, "eth0"}
		switch n {
		case len(steps) - 2:
			if err := d.write("10.0.0.9", attachment{"theirs", "eth0"}.text()); err != nil {
				t.Fatal(err)
			}
		case len(steps) - 1: // it had the address, and goes
			if err := d.write(asked, attachment{"theirs", "eth0"}.text()); err != nil {
				t.Fatal(err)
			}
			if err := i.release(attachment{"theirs", "eth0"}, func(netip.Addr) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		got, err := i.reserve(a, request{spans: s.spans, static: [2]netip.Addr{addrOf(asked)}, ownMAC: s.ownMAC})
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		var announce []bool
		for _, g := range got {
			announce = append(announce, g.Announce)
		}
		if !slices.Equal(announce, s.want) {
			t.Errorf("%s: announced %v, want %v", s.name, announce, s.want)
		}
		if err := i.announced(got, s.ownMAC); err != nil {
			t.Fatal(err)
		}
		if err := i.release(a, func(netip.Addr) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// The other plugin's pod had one more address. With the last mark their file goes.
	if marks, err := i.marks(); err != nil || !slices.Equal(marks, []netip.Addr{addrOf("10.0.0.9")}) {
		t.Errorf("marks = %v (%v), want 10.0.0.9", marks, err)
	}
	if err := i.announced([]address{{Prefix: prefix("10.0.0.9/24"), Announce: true}}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.read(marksName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of marks is still there: %v", err)
	}
}

// Pods with MACs of their own come and go in a subnet whose addresses never come
// again: what is remembered of them does not grow, and what host-local does with the
// directory is not disturbed by it.
func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	d, err := openDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	addr := addrOf("fd42::2")
	var all []netip.Addr
	for range marksKept + 10 {
		for range 2 { // the second time it is known already
			if err := d.mark(addr); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, addr)
		addr = addr.Next()
	}
	marks, err := d.marks()
	if err != nil || !slices.Equal(marks, all[10:]) {
		t.Errorf("%d marks (%v), want the newest %d", len(marks), err, marksKept)
	}
	entries, err := os.ReadDir(d.path)
	if err != nil || len(entries) != 1 {
		t.Errorf("files: %v (%v), want %s alone", entries, err, marksName)
	}
	l, err := d.list()
	if err != nil || len(l.taken)+len(l.index) > 0 {
		t.Errorf("marks are taken for reservations: %v (%v)", l, err)
	}
}

// A file that a crash or a full disk cut off, or that somebody wrote into.
func TestMarksOfADamagedFile(t *testing.T) {
	t.Parallel()
	d, err := openDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.write(marksName, "10.0.0.5\nnonsense\n\n10.0.0.7\nfd42::2%eth0x\nfd42:"); err != nil {
		t.Fatal(err)
	}
	if err := d.mark(addrOf("10.0.0.5")); err != nil {
		t.Fatal(err)
	}
	marks, err := d.marks()
	if want := []netip.Addr{addrOf("10.0.0.7"), addrOf("10.0.0.5")}; err != nil || !slices.Equal(marks, want) {
		t.Errorf("marks = %v (%v), want %v", marks, err, want)
	}
}

// Addresses that nobody asked for would cost every other pod of the node something,
// whenever one comes or goes.
func TestKernelMakesNoAddressesOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, subnet string
		pod          int // IPv6 addresses on the pod's interface: link-local, and ours
	}{{"IPv4 alone", oneFamily, 0}, {"two families", twoFamilies, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, tt.subnet), newPod(t, "pod1")
			h.mustAdd(h.conf("1.1.0", ""), p)
			for _, end := range []struct {
				*netlink.Handle
				name string
				want int
			}{{h.Handle, p.hostName(), 0}, {p.Handle, "eth0", tt.pod}} {
				link, err := end.LinkByName(end.name)
				if err != nil {
					t.Fatal(err)
				}
				var addrs []netlink.Addr
				// A link-local address comes a moment after the interface is up.
				for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
					if addrs, err = dump(func() ([]netlink.Addr, error) { return end.AddrList(link, netlink.FAMILY_V6) }); err != nil {
						t.Fatal(err)
					}
					if len(addrs) >= end.want || time.Now().After(until) {
						break
					}
				}
				if len(addrs) != end.want {
					t.Errorf("%s has the IPv6 addresses %v, want %d", end.name, addrs, end.want)
				}
			}
		})
	}
}
