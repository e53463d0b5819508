package main

import (
	"errors"
	"net"
	"os"
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
