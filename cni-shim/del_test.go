package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestDelSucceedsWhateverIsGone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		gone func(h *host, list *libcni.NetworkConfigList, p *testPod) error
	}{
		{"nothing", func(*host, *libcni.NetworkConfigList, *testPod) error { return nil }},
		{"the path of the namespace", func(_ *host, _ *libcni.NetworkConfigList, p *testPod) error {
			p.path = "/proc/self/nowhere"
			return nil
		}},
		{"the path is that of a plain file, as after a reboot", func(h *host, _ *libcni.NetworkConfigList, p *testPod) error {
			p.path = h.subnetFile
			return nil
		}},
		{"the namespace is not told", func(_ *host, _ *libcni.NetworkConfigList, p *testPod) error {
			p.path = ""
			return nil
		}},
		{"the interface in the pod", func(_ *host, _ *libcni.NetworkConfigList, p *testPod) error {
			_, err := deleteLink(p.Handle, "eth0")
			return err
		}},
		{"the bridge", func(h *host, _ *libcni.NetworkConfigList, _ *testPod) error {
			_, err := deleteLink(h.Handle, "cni0")
			return err
		}},
		{"the subnet file", func(h *host, _ *libcni.NetworkConfigList, _ *testPod) error {
			return os.Remove(h.subnetFile)
		}},
		{"all reservations", func(h *host, _ *libcni.NetworkConfigList, _ *testPod) error {
			return os.RemoveAll(h.dataDir)
		}},
		{"the runtime's memory of the result", func(h *host, list *libcni.NetworkConfigList, p *testPod) error {
			return os.RemoveAll(filepath.Join(filepath.Dir(h.dataDir), "cache"))
		}},
		{"the attachment", func(h *host, list *libcni.NetworkConfigList, p *testPod) error { return h.del(list, p) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, twoFamilies), newPod(t, "pod1")
			list := h.conf("1.1.0", "")
			h.mustAdd(list, p)
			if err := tt.gone(h, list, p); err != nil {
				t.Fatal(err)
			}
			if err := h.del(list, p); err != nil {
				t.Errorf("DEL: %v", err)
			}
			h.wantNothing("DEL")
			if names := linkNames(t, h.Handle); len(names) > 2 {
				t.Errorf("links of the host after DEL: %v", names)
			}
			if err := h.del(list, p); err != nil {
				t.Errorf("second DEL: %v", err)
			}
		})
	}
}

func TestDelOfOnePodLeavesTheOthers(t *testing.T) {
	t.Parallel()
	h, one, two := newHost(t, oneFamily), newPod(t, "pod1"), newPod(t, "pod2")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, one)
	h.mustAdd(list, two)
	if err := h.del(list, one); err != nil {
		t.Fatal(err)
	}
	if err := h.check(list, two); err != nil {
		t.Errorf("CHECK of the pod that stays: %v", err)
	}
	if got := h.reserved("tulle"); len(got) != 1 || got[0] != "10.244.60.3" {
		t.Errorf("reserved are %v, want 10.244.60.3", got)
	}
}

func TestDelMakesNoFiles(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	if err := h.del(h.conf("1.1.0", ""), p); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.dataDir); !os.IsNotExist(err) {
		t.Errorf("DEL of what was never made left %s (%v)", h.dataDir, err)
	}
}

func TestDelWorksWithANetconfThatAddRefuses(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	h.mustAdd(h.conf("1.1.0", ""), p)
	if err := h.del(h.conf("1.1.0", `"mtu": "large", "stranger": 1`), p); err != nil {
		t.Errorf("DEL: %v", err)
	}
	h.wantNothing("DEL with a faulty netconf")
}

// A node that is taken over has pods that flannel and the reference bridge plugin
// attached: their veths have random names, their reservations are in our directory.
func TestDelOfAPodThatTheReferencePluginsAttached(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		holds string // address of the interface in the pod
		want  bool   // the interface is deleted
	}{
		{"the interface holds the reserved address", "10.244.60.77/24", true},
		{"the interface is a stranger's", "192.0.2.1/24", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, oneFamily), newPod(t, "pod1")
			dir := filepath.Join(h.dataDir, "tulle")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "10.244.60.77"), []byte("pod1\r\neth0"), 0o600); err != nil {
				t.Fatal(err)
			}
			link := netlink.NewVeth(netlink.LinkAttrs{Name: "veth1a2b3c4d", TxQLen: -1})
			link.PeerName, link.PeerNamespace = "eth0", netlink.NsFd(int(p.ns.Fd()))
			if err := h.LinkAdd(link); err != nil {
				t.Fatal(err)
			}
			inPod, err := p.LinkByName("eth0")
			if err != nil {
				t.Fatal(err)
			}
			ip, ipnet, err := net.ParseCIDR(tt.holds)
			if err != nil {
				t.Fatal(err)
			}
			ipnet.IP = ip
			if err := p.AddrAdd(inPod, &netlink.Addr{IPNet: ipnet}); err != nil {
				t.Fatal(err)
			}
			if err := h.del(h.conf("1.1.0", ""), p); err != nil {
				t.Fatal(err)
			}
			h.wantNothing("DEL")
			if got := len(linkNames(t, p.Handle)) == 1; got != tt.want {
				t.Errorf("interface of the pod deleted: %t, want %t", got, tt.want)
			}
		})
	}
}

func TestDelRemovesFlannelsFile(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	dir := t.TempDir()
	for _, id := range []string{"pod1", "pod2"} {
		if err := os.WriteFile(filepath.Join(dir, id), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.del(h.conf("1.1.0", `"dataDir": "`+dir+`"`), p); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "pod2" {
		t.Errorf("files of flannel's plugin after DEL of pod1: %v, want pod2", entries)
	}
}

// Whoever asks for the background copy gets the kernel's refusal too.
func TestDeleteInBackgroundTellsWhatTheKernelSays(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	err = h.do(func() error {
		in, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer in.Close()
		return deleteInBackground(in, lo, nil)
	})
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("delete lo: %v, want %v", err, unix.EOPNOTSUPP)
	}
}

// A runtime reads what the plugin says until the pipes are closed, and a script may
// hold a lock. The copy that waits for the kernel keeps none of it open.
func TestNobodyWaitsForTheBackgroundCopy(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	list := h.conf("1.1.0", "")
	program := filepath.Join(t.TempDir(), "tulle") // which no other test runs
	text, err := os.ReadFile(filepath.Join(pluginDir, "tulle"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	seen := 0
	// On a machine with much to do the copy may often be done before we look.
	for i := 0; i < 20 || seen == 0 && i < 500; i++ {
		p := newPod(t, "pod1")
		h.mustAdd(list, p)
		ends, lock, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := h.verb(program, list, p, "DEL")
		cmd.ExtraFiles = []*os.File{lock}
		// Returns at the end of what is written to its pipes.
		err = h.do(func() error { out, err := cmd.CombinedOutput(); return errors.Join(err, errorOf(out)) })
		lock.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(ends); err != nil {
			t.Fatal(err)
		}
		ends.Close()
		seen += running(t, program)
	}
	// One that runs here was not waited for.
	if seen == 0 {
		t.Error("after 500 DELs no copy was still at work when all pipes were closed")
	}
	h.wantNothing("DEL")
}

// A runtime that is process 1 may reap nothing but its own children.
func TestProcess1IsLeftNoOrphan(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, p)
	p.path = "" // which the other /proc does not have
	cmd := h.verb("unshare", list, p, "DEL", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", `"$0"; echo $? /proc/[0-9]*`, filepath.Join(pluginDir, "tulle"))
	var out []byte
	if err := h.do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := string(out), "0 /proc/1\n"; got != want {
		t.Errorf("status of DEL and processes after it: %q, want %q", got, want)
	}
	h.wantNothing("DEL")
}

// verb is a run of the plugin, or of a program that starts it, as a runtime does it.
func (h *host) verb(program string, list *libcni.NetworkConfigList, p *testPod, verb string, args ...string) *exec.Cmd {
	h.Helper()
	conf, err := libcni.InjectConf(list.Plugins[0], map[string]any{"name": list.Name, "cniVersion": list.CNIVersion})
	if err != nil {
		h.Fatal(err)
	}
	cmd := exec.CommandContext(h.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(conf.Bytes)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.id, "CNI_NETNS="+p.path, "CNI_IFNAME="+p.ifName, "CNI_PATH="+pluginDir)
	return cmd
}

// running is how many processes run a program. One that ends has no files any more.
func running(t *testing.T, program string) int {
	t.Helper()
	want, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, dir := range processes {
		if exe, err := os.Stat(filepath.Join(dir, "exe")); err != nil || !os.SameFile(exe, want) {
			continue
		}
		if fds, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil && len(fds) > 0 {
			n++
		}
	}
	return n
}

func errorOf(out []byte) error {
	if len(out) > 0 {
		return errors.New(string(out))
	}
	return nil
}
