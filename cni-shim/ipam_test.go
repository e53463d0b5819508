package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (h *host) dir() string { return filepath.Join(h.dataDir, "tulle") }

// hostLocal writes a reservation as the reference plugin does.
func (h *host) hostLocal(addr, holder string, age time.Duration) {
	h.Helper()
	if err := os.MkdirAll(h.dir(), 0o755); err != nil {
		h.Fatal(err)
	}
	file := filepath.Join(h.dir(), addr)
	if err := os.WriteFile(file, []byte(holder), 0o600); err != nil {
		h.Fatal(err)
	}
	then := time.Now().Add(-age)
	if err := os.Chtimes(file, then, then); err != nil {
		h.Fatal(err)
	}
}

func TestRequestedAddressAndMAC(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, extra  string
		args         [][2]string
		capabilities map[string]any
		ips          string
		mac          string
	}{
		{"CNI_ARGS", "", [][2]string{{"IP", "10.244.60.77"}, {"MAC", "0A:00:00:00:00:77"}}, nil, "10.244.60.77/24 fd42:0:0:3::2/64", "0a:00:00:00:00:77"},
		{"CNI_ARGS of both families", "", [][2]string{{"IP", "10.244.60.77,fd42:0:0:3::77"}}, nil, "10.244.60.77/24 fd42:0:0:3::77/64", "0a:58:0a:f4:3c:4d"},
		{"capabilities", `"capabilities": {"ips": true, "mac": true}`, nil,
			map[string]any{"ips": []string{"fd42:0:0:3::5/64", "10.244.60.5/24"}, "mac": "0a:00:00:00:00:05"}, "10.244.60.5/24 fd42:0:0:3::5/64", "0a:00:00:00:00:05"},
		{"args.cni", `"args": {"cni": {"ips": ["10.244.60.6"], "mac": "0a:00:00:00:00:06"}}`, nil, nil, "10.244.60.6/24 fd42:0:0:3::2/64", "0a:00:00:00:00:06"},
		{"the same twice", `"args": {"cni": {"ips": ["10.244.60.6"]}}`, [][2]string{{"IP", "10.244.60.6"}}, nil, "10.244.60.6/24 fd42:0:0:3::2/64", "0a:58:0a:f4:3c:06"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, twoFamilies), newPod(t, "pod1")
			p.args, p.capabilities = tt.args, tt.capabilities
			list := h.conf("1.0.0", tt.extra)
			r := h.mustAdd(list, p)
			var ips []string
			for _, ip := range r.IPs {
				ips = append(ips, ip.Address.String())
			}
			if got := strings.Join(ips, " "); got != tt.ips || r.Interfaces[2].Mac != tt.mac {
				t.Errorf("pod has %s and %s, want %s and %s", got, r.Interfaces[2].Mac, tt.ips, tt.mac)
			}
			echo(t, h.ns, p.ns, netip.MustParseAddr(r.IPs[0].Address.IP.String()))
			if err := h.check(list, p); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			if err := h.del(list, p); err != nil {
				t.Fatal(err)
			}
			h.wantNothing("DEL")
		})
	}
}

func TestRequestedAddressThatCannotBe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, extra, ip string
		code            uint
		texts           []string
	}{
		{"reserved for another", "", "10.244.60.2", types.ErrTryAgainLater, []string{"10.244.60.2 is reserved for eth0 of container first"}},
		{"the bridge's", "", "10.244.60.1", types.ErrInvalidNetworkConfig, []string{"10.244.60.1", "10.244.60.254"}},
		{"the broadcast address", "", "10.244.60.255", types.ErrInvalidNetworkConfig, []string{"10.244.60.255"}},
		{"of another subnet", "", "10.244.61.2", types.ErrInvalidNetworkConfig, []string{"10.244.61.2"}},
		{"out of the range", `ipam:"rangeEnd": "10.244.60.9"`, "10.244.60.10", types.ErrInvalidNetworkConfig, []string{"10.244.60.10", "to 10.244.60.9"}},
		{"of a family that the node has not", "", "fd42::1", types.ErrInvalidNetworkConfig, []string{"fd42::1", "no IPv6 subnet"}},
		{"contradiction", `"args": {"cni": {"ips": ["10.244.60.8"]}}`, "10.244.60.9", types.ErrInvalidEnvironmentVariables, []string{"10.244.60.9 contradicts 10.244.60.8"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, first, p := newHost(t, oneFamily), newPod(t, "first"), newPod(t, "pod1")
			h.mustAdd(h.conf("1.0.0", ""), first)
			p.args = [][2]string{{"IP", tt.ip}}
			_, err := h.add(h.conf("1.0.0", tt.extra), p)
			wantError(t, "ADD", err, tt.code, tt.texts...)
			if err := h.del(h.conf("1.0.0", ""), first); err != nil {
				t.Fatal(err)
			}
			h.wantNothing("the refused ADD")
		})
	}
}

// A pod that comes back with its address on a node that was cut off from power finds that
// address reserved for its former self.
func TestRequestedAddressOfAPodThatIsGone(t *testing.T) {
	t.Parallel()
	h, former, again := newHost(t, twoFamilies), newPod(t, "former"), newPod(t, "again")
	list := h.conf("1.0.0", "")
	former.args = [][2]string{{"IP", "10.244.60.9,fd42:0:0:3::9"}}
	again.args = former.args
	h.mustAdd(list, former)
	if _, err := deleteLink(h.Handle, former.hostName()); err != nil {
		t.Fatal(err)
	}
	h.hostLocal("10.244.60.7", "unrelated\r\neth0", time.Hour)
	h.mustAdd(list, again)
	if got, want := h.reserved("tulle"), []string{"10.244.60.7", "10.244.60.9", "fd42:0:0:3::9"}; !slices.Equal(got, want) {
		t.Errorf("reserved: %v, want %v", got, want)
	}
	if err := h.check(list, again); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(h.dir(), "10.244.60.20"), 0o755); err != nil {
		t.Fatal(err)
	}
	third := newPod(t, "third")
	third.args = [][2]string{{"IP", "10.244.60.20"}}
	_, err := h.add(list, third)
	wantError(t, "ADD", err, types.ErrTryAgainLater, "10.244.60.20", "names nobody", h.dir())
}

func TestRangeIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, twoFamilies)
	list := h.conf("1.1.0", `ipam:"rangeStart": "10.244.60.10", "rangeEnd": "10.244.60.12"`)
	var got []string
	for i := range 3 {
		r := h.mustAdd(list, newPod(t, fmt.Sprint("pod", i)))
		got = append(got, r.IPs[0].Address.IP.String())
	}
	if want := []string{"10.244.60.10", "10.244.60.11", "10.244.60.12"}; !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	_, err := h.add(list, newPod(t, "last"))
	wantError(t, "ADD", err, types.ErrTryAgainLater, "3 of 3")
	wantError(t, "STATUS", h.status(list), types.ErrPluginNotAvailable, "3 of 3")

	outside := h.conf("1.1.0", `ipam:"rangeStart": "10.244.61.10"`)
	_, err = h.add(outside, newPod(t, "other"))
	wantError(t, "ADD with a range of another subnet", err, types.ErrInvalidNetworkConfig, "ipam.rangeStart", "10.244.61.10", "10.244.60.0/24")
	wantError(t, "STATUS with a range of another subnet", h.status(outside), types.ErrInvalidNetworkConfig, "ipam.rangeStart")
}

func TestAddressIsNotReusedWhileOthersAreFree(t *testing.T) {
	t.Parallel()
	h := newHost(t, strings.ReplaceAll(oneFamily, "60.1/24", "60.1/29"))
	list := h.conf("1.1.0", "")
	var got []string
	for i := range 6 {
		p := newPod(t, fmt.Sprint("pod", i))
		got = append(got, h.mustAdd(list, p).IPs[0].Address.IP.String())
		if err := h.del(list, p); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"10.244.60.2", "10.244.60.3", "10.244.60.4", "10.244.60.5", "10.244.60.6", "10.244.60.2"}
	if !slices.Equal(got, want) {
		t.Errorf("addresses one after another: %v, want %v", got, want)
	}
}

// A full range is searched for reservations whose pods are gone. Pods that live
// keep theirs, whoever made them.
func TestFullRangeIsReclaimed(t *testing.T) {
	t.Parallel()
	h := newHost(t, strings.ReplaceAll(oneFamily, "60.1/24", "60.1/29"))
	list := h.conf("1.1.0", "")
	alive, dead := newPod(t, "alive"), newPod(t, "dead")
	h.mustAdd(list, alive) // .2
	h.mustAdd(list, dead)  // .3
	if _, err := deleteLink(h.Handle, dead.hostName()); err != nil {
		t.Fatal(err)
	}
	// The dead one's port would lead to the next pod with its address.
	err := h.do(func() error {
		f, err := openFirewall()
		if err != nil {
			return err
		}
		defer f.close()
		who := attachment{"dead", "eth0"}
		return f.put(portRows([]portMapping{{HostPort: 80, Port: 80, Protocol: 6}}, []address{{Prefix: prefix("10.244.60.3/29")}},
			who, owner("tulle", who, "")), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	flannels := newPod(t, "flannels")
	h.attachAsReference(flannels, "10.244.60.4/29")
	h.hostLocal("10.244.60.4", "flannels\r\neth0", time.Hour)
	h.hostLocal("10.244.60.5", "gone\r\neth0", time.Hour)
	h.hostLocal("10.244.60.6", "starting\r\neth0", time.Second)

	got := []string{
		h.mustAdd(list, newPod(t, "new1")).IPs[0].Address.IP.String(),
		h.mustAdd(list, newPod(t, "new2")).IPs[0].Address.IP.String(),
	}
	slices.Sort(got)
	if want := []string{"10.244.60.3", "10.244.60.5"}; !slices.Equal(got, want) {
		t.Errorf("reclaimed %v, want %v", got, want)
	}
	if rows, err := h.portRows(); err != nil || len(rows) > 0 {
		t.Errorf("port mappings of the dead pod: %v (%v), want none", rows, err)
	}
	_, err = h.add(list, newPod(t, "new3"))
	wantError(t, "ADD when all live", err, types.ErrTryAgainLater, "5 of 5")
	echo(t, h.ns, flannels.ns, addrOf("10.244.60.4"))
	echo(t, h.ns, alive.ns, addrOf("10.244.60.2"))
}

// A runtime such as gVisor takes the addresses out of the namespace. Behind such a
// veth may live whoever holds a reservation of host-local's.
func TestReservationsBehindAnOpaqueVethAreKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, strings.ReplaceAll(oneFamily, "60.1/24", "60.1/30"))
	list := h.conf("1.1.0", "")
	h.mustAdd(list, newPod(t, "first"))
	if err := h.del(list, newPod(t, "first")); err != nil {
		t.Fatal(err)
	}
	p := newPod(t, "flannels")
	h.attachAsReference(p, "")
	h.hostLocal("10.244.60.2", "flannels\r\neth0", time.Hour)
	_, err := h.add(list, newPod(t, "new"))
	wantError(t, "ADD", err, types.ErrTryAgainLater, "1 of 1")
}

// attachAsReference wires a pod as the reference bridge plugin does.
func (h *host) attachAsReference(p *testPod, ip string) {
	h.Helper()
	br, err := h.LinkByName("cni0")
	if err != nil {
		h.Fatal(err)
	}
	link := netlink.NewVeth(netlink.LinkAttrs{Name: "veth" + p.id[:4], TxQLen: -1, MasterIndex: br.Attrs().Index})
	link.PeerName, link.PeerNamespace = "eth0", netlink.NsFd(int(p.ns.Fd()))
	if err := h.LinkAdd(link); err != nil {
		h.Fatal(err)
	}
	if err := h.LinkSetUp(link); err != nil {
		h.Fatal(err)
	}
	inPod, err := p.LinkByName("eth0")
	if err != nil {
		h.Fatal(err)
	}
	if ip != "" {
		if err := p.AddrAdd(inPod, addr(ip)); err != nil {
			h.Fatal(err)
		}
	}
	if err := p.LinkSetUp(inPod); err != nil {
		h.Fatal(err)
	}
}

// The node is moved to tulle and back: each plugin reads and writes the other's
// reservations.
func TestReservationsAreSharedWithHostLocal(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	buildReference(t, "plugins/ipam/host-local")
	list := h.conf("1.0.0", "")
	ipam, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": "tulle", "plugins": [{"type": "host-local",
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.244.60.0/24"}]]}}]}`, h.dataDir))
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours, more := newPod(t, "theirs"), newPod(t, "ours"), newPod(t, "more")
	var got []string
	for _, step := range []struct {
		list *libcni.NetworkConfigList
		pod  *testPod
	}{{ipam, theirs}, {list, ours}, {ipam, more}} {
		got = append(got, h.mustAdd(step.list, step.pod).IPs[0].Address.IP.String())
	}
	if want := []string{"10.244.60.2", "10.244.60.3", "10.244.60.4"}; !slices.Equal(got, want) {
		t.Errorf("addresses of host-local, tulle and host-local: %v, want %v", got, want)
	}
	// Each releases what the other reserved.
	if err := h.del(list, theirs); err != nil {
		t.Fatal(err)
	}
	if err := h.del(ipam, ours); err != nil {
		t.Fatal(err)
	}
	if err := h.del(ipam, more); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(h.dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !isMemory(e.Name()) {
			t.Errorf("still there: %s", e.Name())
		}
	}
}

func TestOldReservationsWithoutInterface(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	h.hostLocal("10.244.60.9", "pod1", time.Hour)
	if err := h.del(h.conf("1.0.0", ""), newPod(t, "pod1")); err != nil {
		t.Fatal(err)
	}
	h.wantNothing("DEL")
}

func TestNoSymbolicLinkIsFollowed(t *testing.T) {
	t.Parallel()
	link := func(t *testing.T, h *host, name string) (target string) {
		t.Helper()
		target = filepath.Join(t.TempDir(), "target")
		if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(h.dir(), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(h.dir(), name)); err != nil {
			t.Fatal(err)
		}
		return target
	}
	for _, name := range []string{lockName, lastNamePrefix + "0", marksName, "10.244.60.2", p1Host + "_10.244.60.2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, oneFamily), newPod(t, "pod1")
			target := link(t, h, name)
			list := h.conf("1.1.0", "")
			_, _ = h.add(list, p) // may be refused
			_ = h.del(list, p)
			_ = h.gc(list)
			if text, err := os.ReadFile(target); err != nil || string(text) != "precious" {
				t.Errorf("what %s leads to is now %q (%v)", name, text, err)
			}
		})
	}
	t.Run("the directory itself", func(t *testing.T) {
		t.Parallel()
		h, p := newHost(t, oneFamily), newPod(t, "pod1")
		elsewhere := t.TempDir()
		if err := os.MkdirAll(h.dataDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, h.dir()); err != nil {
			t.Fatal(err)
		}
		_, err := h.add(h.conf("1.1.0", ""), p)
		wantError(t, "ADD", err, types.ErrIOFailure, h.dir())
		if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
			t.Errorf("written through the link: %v (%v)", entries, err)
		}
	})
}

// To open a pipe is to wait for somebody at its other end.
func TestPipeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{lockName, lastNamePrefix + "0", marksName, "10.244.60.2", p1Host + "_10.244.60.2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, oneFamily), newPod(t, "pod1")
			if err := os.MkdirAll(h.dir(), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(filepath.Join(h.dir(), name), 0o600); err != nil {
				t.Fatal(err)
			}
			list := h.conf("1.1.0", "")
			for _, verb := range []string{"ADD", "DEL"} {
				cmd := h.verb(filepath.Join(pluginDir, "tulle"), list, p, verb)
				if err := h.do(cmd.Start); err != nil {
					t.Fatal(err)
				}
				ended := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
				_ = cmd.Wait() // may be refused
				if !ended.Stop() {
					t.Fatalf("%s waits for the other end of the pipe %s", verb, name)
				}
			}
		})
	}
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	h.mustAdd(h.conf("1.1.0", ""), newPod(t, "pod1"))
	for name, want := range map[string]os.FileMode{
		".": 0o755 | os.ModeDir, "lock": 0o600, "last_reserved_ip.0": 0o600, "10.244.60.2": 0o600, p1Host + "_10.244.60.2": 0o600,
	} {
		s, err := os.Lstat(filepath.Join(h.dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if s.Mode() != want {
			t.Errorf("mode of %s is %s, want %s", name, s.Mode(), want)
		}
	}
}

// Whatever somebody wrote into the directory, allocating and freeing go on and hurt
// no other reservation.
func FuzzDirectory(f *testing.F) {
	f.Add("10.0.0.2", "c1\r\neth0")
	f.Add("last_reserved_ip.0", "10.0.0.300")
	f.Add(p1Host+"_10.0.0.2", "x")
	f.Add("fd00::1", "")
	f.Add("10.0.0.7", "pod1")
	f.Add(marksName, "10.0.0.2\n10.0.0.")
	f.Fuzz(func(t *testing.T, name, text string) {
		dir := t.TempDir()
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 200 || name == lockName {
			return
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := openDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		i := &ipam{d, "fuzz"}
		a := attachment{"pod1", "eth0"}
		s := span{prefix("10.0.0.1/28"), addrOf("10.0.0.2"), addrOf("10.0.0.14")}
		none := func([]reservation) ([]reservation, error) { return nil, nil }
		got, err := i.reserve(a, request{spans: [2]span{s}, stale: none, farewell: func([]reservation) error { return nil }})
		if err != nil || len(got) != 1 || !s.contains(got[0].Prefix.Addr()) {
			t.Fatalf("reserve beside %q (%q) = %v, %v", name, text, got, err)
		}
		if got[0].Prefix.Addr().String() == name && strings.TrimSpace(strings.SplitN(text, holderBreak, 2)[0]) != "pod1" {
			t.Errorf("%s was reserved for %q and was given out", name, text)
		}
		if err := i.release(a, func(netip.Addr) error { return nil }); err != nil {
			t.Fatalf("release beside %q (%q): %v", name, text, err)
		}
		if held, err := i.held(a); err != nil || len(held) > 0 {
			t.Errorf("after release beside %q (%q) still held: %v (%v)", name, text, held, err)
		}
		if _, err := i.sweep(); err != nil {
			t.Errorf("sweep beside %q (%q): %v", name, text, err)
		}
	})
}
