package lab

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is wrong on a host when tulled starts is told in one clear line, with
// what to do, and nothing is half done: no lease, no device, no file.
func TestStartFaults(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	const clean = "ip link delete tulle.1; rm -rf /run/tulle /var/lib/tulle/*; iptables -t nat -F; iptables -F; iptables -X; iptables -t nat -X; nft delete table inet tulle.1; nft delete table ip tulle"
	if _, err := node.StopDaemon(t.Context(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Exec(t.Context(), "sh", "-c", clean); err != nil {
		t.Fatal(err)
	}
	etcd := "--etcd-endpoints=" + l.EtcdEndpoints()
	if _, err := l.Host("underlay").Exec(t.Context(), "tullectl", "lease", "release", "--force", lease(t, l)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, before, command, after string
		exit, want                   string
	}{
		{"no such device", "", "tulled " + etcd + " --iface=eth9", "", "exit status 1",
			"tulled: --iface: no device has the name or the address eth9; there are: eth0 (192.0.2.11, default route)"},
		{"an expression for two devices", "ip link add eth1 type veth peer name other; ip link set eth1 up; ip addr add 198.18.0.1/24 dev eth1",
			"tulled " + etcd + " --iface-regex=^eth", "ip link delete eth1", "exit status 1",
			`tulled: --iface-regex: "^eth" matches eth0 (192.0.2.11, default route), eth1 (198.18.0.1); choose one with --iface`},
		{"no right to change the network", "", "setpriv --reuid=65534 --clear-groups --bounding-set=-all --inh-caps=-all tulled " + etcd, "", "exit status 1",
			"tulled: no right to change the network; run tulled as root or with the capability CAP_NET_ADMIN"},
		{"no iptables", "", "P=$(command -v tulled); PATH=/nonexistent exec $P --firewall=iptables " + etcd, "", "exit status 1",
			"install the package iptables, or use --firewall=nftables"},
		{"an unknown firewall", "", "tulled --firewall=ufw " + etcd, "", "exit status 2", `--firewall: "ufw" is not iptables, nftables or auto`},
		{"an unknown flag", "", "tulled --etcd-endpoint=x", "", "exit status 2", "tulled: unknown flag: --etcd-endpoint"},
		{"a certificate that can't be read", "", "tulled --etcd-endpoints=https://192.0.2.1:2379 --etcd-cafile=/missing.pem", "", "exit status 2",
			"tulled: --etcd-cafile: open /missing.pem: no such file or directory"},
		{"the status address is taken", "", "tulled " + etcd + " --status-addr=192.0.2.99:8471", "", "exit status 1", "tulled: --status-addr: listen tcp 192.0.2.99:8471"},
		{"a network around the underlay", "", "tulled " + etcd + " --iface=lo", "", "exit status 1", "no device has the name or the address lo"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.before != "" {
				if _, err := node.Exec(t.Context(), "sh", "-ec", test.before); err != nil {
					t.Fatal(err)
				}
			}
			_, err := node.Exec(t.Context(), "sh", "-c", "timeout 20 sh -c '"+strings.ReplaceAll(test.command, "'", `'\''`)+"'")
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.exit) {
				t.Errorf("%s: %v, want %s and %q", test.command, err, test.exit, test.want)
			}
			if test.after != "" {
				if _, err := node.Exec(t.Context(), "sh", "-ec", test.after); err != nil {
					t.Fatal(err)
				}
			}
			untouched(t, l, node)
		})
	}
}

// lease is the subnet of the lab's first lease.
func lease(t *testing.T, l *Lab) string {
	t.Helper()
	text, err := l.Host("underlay").Exec(t.Context(), "tullectl", "lease", "list")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(text)[7] // behind SUBNET NODE ADDRESS RENEWED RUNS OUT IN
}

// untouched fails if a start that failed left anything.
func untouched(t *testing.T, l *Lab, node *Host) {
	t.Helper()
	leases, err := l.Host("underlay").Exec(t.Context(), "tullectl", "lease", "list", "--json")
	if err != nil || strings.TrimSpace(leases) != "[]" {
		t.Errorf("leases = %s, %v, want none", leases, err)
	}
	left, err := node.Exec(t.Context(), "sh", "-c", "ip -br link show type vxlan; iptables-save | grep TULLE; nft list tables | grep tulle; ip nexthop")
	if strings.TrimSpace(left) != "" || err != nil {
		t.Errorf("left in the kernel: %s, %v", left, err)
	}
	if _, err := os.Stat(node.Path(subnetFile)); err == nil {
		t.Error("a subnet file was written")
	}
}

// Another program has a device with our VNI and port: that is told with what to
// do, and all goes on by itself when it is gone.
func TestForeignDeviceOnOurVNI(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	if _, err := node.StopDaemon(t.Context(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Exec(t.Context(), "sh", "-ec", "ip link delete tulle.1; rm /run/tulle/subnet.env; ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.11 dev eth0 nolearning"); err != nil {
		t.Fatal(err)
	}
	if err := node.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		heals(t, func() error {
			if !ok() {
				return errNot(what)
			}
			return nil
		})
	}
	log := func() string {
		text, err := os.ReadFile(node.Log(daemonName))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	wait("told what to do", func() bool { return strings.Contains(log(), "remove it with `ip link delete flannel.1`") })
	if err := node.Ready(t.Context()); err == nil {
		t.Error("tulled says that it is ready")
	}
	if _, err := os.Stat(node.Path(subnetFile)); err == nil {
		t.Error("a subnet file was written")
	}
	if _, err := node.Exec(t.Context(), "ip", "link", "delete", "flannel.1"); err != nil {
		t.Fatal(err)
	}
	wait("ready after the device is gone", func() bool { return node.Ready(t.Context()) == nil })
	if n := strings.Count(log(), "remove it with"); n != 1 {
		t.Errorf("it was told %d times, want once", n)
	}
}

// errNot says what has not happened.
type errNot string

func (e errNot) Error() string { return "not yet: " + string(e) }
