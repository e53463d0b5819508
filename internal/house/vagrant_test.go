package house

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle/internal/lab"
	"tulle/internal/root"
	"tulle/internal/status"
)

// trap makes a host's network that of a virtual machine behind a NAT of its own:
// the first device has the default route, and an address that all machines have.
// The router answers there as VirtualBox's does.
const trap = `
ip link set eth0 down
ip link set eth0 name eth1
ip link set eth1 up
ip netns add nat
ip link add eth0 type veth peer name eth0 netns nat
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip -n nat address add 10.0.2.2/24 dev eth0
ip -n nat link set eth0 up
ip route replace default via 10.0.2.2 dev eth0
ping -q -c 1 10.0.2.2`

// The scripts that provision virtual machines are run on hosts with their network.
func TestVagrantScripts(t *testing.T) {
	root.Require(t)
	t.Parallel()
	l := up(t, bare)
	nodes := l.Nodes()
	sh := func(h *lab.Host, script string, args ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(top, "dist/vagrant", script))
		if err != nil {
			text = []byte(script)
		}
		out, err := h.ExecInput(t.Context(), string(text), append([]string{"sh", "-eu", "-s", "--"}, args...)...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", h.Name, err, out)
		}
		return out
	}
	etcd := "http://" + nodes[0].Addr().String() + ":2379"
	for _, h := range nodes {
		sh(h, trap)
	}
	for i, h := range nodes { // in the Vagrantfile's order
		if i == 0 {
			sh(h, "etcd.sh", h.Addr().String())
		}
		sh(h, "node.sh", "/tmp/tulle.deb", etcd)
		sh(h, "pod.sh")
	}
	shown := sh(nodes[len(nodes)-1], "show.sh", etcd)
	if got := strings.Count(shown, "3 packets transmitted, 3 received, 0% packet loss"); got != len(nodes)-1 {
		t.Errorf("%d other pods answered, want %d:\n%s", got, len(nodes)-1, shown)
	}

	subnets := map[string]string{}
	for i, h := range nodes {
		n := stateOf(t, h)
		why := "it reaches etcd"
		if i == 0 {
			why = "etcd is at its address"
		}
		if u := n.Underlay; u.Dev != "eth1" || u.Address != h.Addr().String() || u.Why != why || len(u.Others) != 1 || !strings.Contains(u.Others[0], "10.0.2.15") {
			t.Errorf("%s: underlay = %+v, want eth1 with %s (%s), and eth0 told of", h.Name, *u, h.Addr(), why)
		}
		if len(n.Troubles) > 0 {
			t.Errorf("%s: troubles = %q", h.Name, n.Troubles)
		}
		if other, ok := subnets[n.Lease.Subnets[0]]; ok || n.Lease.Address != h.Addr().String() {
			t.Errorf("%s: lease = %+v, which %s has too", h.Name, *n.Lease, other)
		}
		subnets[n.Lease.Subnets[0]] = h.Name
	}

	// Provisioning again changes nothing.
	again := sh(nodes[0], "node.sh", "/tmp/tulle.deb", etcd) + sh(nodes[0], "pod.sh")
	if n := stateOf(t, nodes[0]); subnets[n.Lease.Subnets[0]] != nodes[0].Name {
		t.Errorf("provisioned again, %s has %s\n%s", nodes[0].Name, n.Lease.Subnets, again)
	}

	// Two nodes are made to take the address that all have: the second one does
	// not, and all that see the first one say so.
	sh(nodes[0], "echo TULLED_IFACE=eth0 >> /etc/default/tulled; systemctl restart tulled")
	for _, test := range []struct{ host, want string }{
		{"node1", "on the link of eth1, and this node announces 10.0.2.15 of eth0; if the others can't reach that, give --iface=eth1"},
		{"node2", "node node1 announces 10.0.2.15, which eth0 of this host has too"},
	} {
		for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			troubles := strings.Join(stateOf(t, l.Host(test.host)).Troubles, "\n")
			if strings.Contains(troubles, test.want) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("troubles of %s = %q, want %q", test.host, troubles, test.want)
				break
			}
		}
	}
	_, err := nodes[1].Exec(t.Context(), "sh", "-c", "echo TULLED_IFACE=eth0 >> /etc/default/tulled; systemctl restart tulled")
	if err == nil || !strings.Contains(err.Error(), "our public address 10.0.2.15 is that of the lease") || !strings.Contains(err.Error(), "eth1 ("+nodes[1].Addr().String()+")") {
		t.Errorf("the second node at 10.0.2.15: %v, want it refused, with what else there is", err)
	}
}

func stateOf(t *testing.T, h *lab.Host) status.Node {
	t.Helper()
	text, err := h.Exec(t.Context(), "curl", "-sS", "http://127.0.0.1:8471/state?format=json")
	if err != nil {
		t.Fatal(err)
	}
	var n status.Node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestVagrantfile asks Vagrant itself.
func TestVagrantfile(t *testing.T) {
	t.Parallel()
	vagrant, err := exec.LookPath("vagrant")
	if err != nil {
		if os.Getenv("TULLE_REQUIRE_VAGRANT") == "1" {
			t.Fatalf("TULLE_REQUIRE_VAGRANT=1: %v", err)
		}
		t.Skip("no vagrant here")
	}
	deb := filepath.Join(t.TempDir(), "tulle.deb")
	if err := os.WriteFile(deb, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(vagrant, "validate", "--ignore-provider")
	cmd.Dir = filepath.Join(top, "dist/vagrant")
	cmd.Env = append(os.Environ(), "TULLE_PACKAGE="+deb, "TULLE_NODES=3", "VAGRANT_HOME="+t.TempDir(), "VAGRANT_DOTFILE_PATH="+t.TempDir(), "VAGRANT_CHECKPOINT_DISABLE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "validated successfully") {
		t.Errorf("vagrant validate: %v\n%s", err, out)
	}
}
