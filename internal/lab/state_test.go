package lab

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tulle/internal/root"
	"tulle/subnet"
)

func TestClaimRefuses(t *testing.T) {
	root.Require(t)
	t.Parallel()
	empty := t.TempDir()
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no nodes", Options{Nodes: 0, Pods: 2}, "0 nodes"},
		{"more nodes than the underlay has addresses", Options{Nodes: 241, Pods: 2}, "241 nodes"},
		{"more pods than a subnet has addresses", Options{Nodes: 2, Pods: 253}, "253 pods"},
		{"a name that leads out of the directory of labs", Options{Name: "../x", Nodes: 2}, "cannot name a lab"},
		{"a name too long for a socket's path", Options{Name: strings.Repeat("x", 32), Nodes: 2}, "cannot name a lab"},
		{"an unknown backend", Options{Nodes: 2, Backend: "ipip"}, `"ipip" is no backend: vxlan or host-gw`},
		{"an unknown firewall", Options{Nodes: 2, Firewall: "ufw"}, `"ufw" is not iptables, nftables or auto`},
		{"direct routing of a backend that has nothing else", Options{Nodes: 2, Backend: subnet.HostGW, Direct: true}, "direct routing is an option of the backend vxlan"},
		{"plain routes to pods of a family that hosts have not", Options{Nodes: 2, Backend: subnet.HostGW, Families: families(t, "46")}, "host-gw leads to IPv6 pods by the hosts' IPv6 addresses"},
		{"direct routing to pods of a family that hosts have not", Options{Nodes: 2, Direct: true, Underlay: families(t, "6")}, "direct routing leads to IPv4 pods by the hosts' addresses of that family"},
		{"more links than nodes", Options{Nodes: 1, Links: 2}, "2 links for 1 nodes"},
		{"programs that were not built", Options{Nodes: 2, Bin: empty}, "no tulled beside tullectl in " + empty + "; run make build"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Up(t.Context(), tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Up = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestLoadReadsWhatSaveWrote(t *testing.T) {
	root.Require(t)
	t.Parallel()
	dir, err := makeDir("")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(filepath.Base(dir))
	l.Bin, l.Families, l.Underlay = "/some/bin", Families{true, true}, Families{subnet.IPv6: true}
	h := l.newHost("node1", RoleNode, firstLink, [2]netip.Addr{netip.MustParseAddr("192.0.2.11")})
	h.process = process{Pid: 1 << 30, Start: 42} // larger than any pid
	pod := newPod(h, "pod1-1")
	pod.Addrs = [2]netip.Prefix{netip.MustParsePrefix("10.244.1.2/24"), netip.MustParsePrefix("fd00:10:244:1::2/64")}
	unborn := l.newHost("node2", RoleNode, firstLink, [2]netip.Addr{netip.MustParseAddr("192.0.2.12")})
	l.Hosts, l.Pods = []*Host{h, unborn}, []*Pod{pod}
	if err := l.save(); err != nil {
		t.Fatal(err)
	}

	got, err := Load(l.Name)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Hosts) != 1 || got.Hosts[0].process != h.process || got.Hosts[0].Addrs != h.Addrs || got.Hosts[0].Role != RoleNode || got.Bin != l.Bin {
		t.Errorf("Load has hosts %+v and programs in %s, want those that were saved", got.Hosts, got.Bin)
	}
	if len(got.Pods) != 1 || got.Pods[0].Addrs != pod.Addrs || got.Pods[0].Host() != got.Hosts[0] {
		t.Errorf("Load has pods %+v, want those that were saved", got.Pods)
	}
	if got.Families != l.Families || got.Underlay != l.Underlay {
		t.Errorf("Load has pods of %s on hosts of %s, want %s and %s", got.Families, got.Underlay, l.Families, l.Underlay)
	}
	if names, err := List(); err != nil || !strings.Contains(strings.Join(names, " "), l.Name) {
		t.Errorf("List = %s, %v, want %s among them", names, err, l.Name)
	}
	if ended, err := got.Down(t.Context()); ended != 0 || err != nil {
		t.Errorf("Down of hosts that never were = %d, %v", ended, err)
	}
	if _, err := Load(l.Name); !errors.Is(err, ErrNone) {
		t.Errorf("Load after Down = %v, want %v", err, ErrNone)
	}
}

func TestLoadOfALabThatDiedBeforeItsFirstHost(t *testing.T) {
	root.Require(t)
	t.Parallel()
	dir, err := makeDir("")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Load(filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there after Down: %v", dir, err)
	}
}
