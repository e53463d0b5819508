package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// useNetworkd lets udev and systemd-networkd work on the host. The latter
// configures eth0, as on many hosts.
func useNetworkd(h *host) {
	h.t.Helper()
	h.put("/etc/systemd/network/20-eth0.network",
		"[Match]\nName=eth0\n[Network]\nAddress="+h.addr+prefixLen+"\nGateway="+router+"\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n", 0o644)
	// udev runs only where /sys can be written.
	h.sh(`for dir in $(awk '$5 ~ "^/sys($|/)" && $5 !~ "cgroup" {print $5}' /proc/self/mountinfo); do mount -o remount,rw $dir; mount -o remount,bind,rw $dir; done
		systemctl unmask systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-networkd.service systemd-networkd.socket
		systemctl start systemd-udevd.service
		udevadm trigger --action=add --subsystem-match=net
		udevadm settle
		systemctl start systemd-networkd.service`)
	configured(h)
}

// configured waits until systemd-networkd has done all that it does at a start.
func configured(h *host) {
	h.t.Helper()
	h.until("networkd has configured eth0", func() error {
		return wantText(h.sh("networkctl --no-legend list eth0 | awk '{print $5}'"), "configured")
	})
}

func mac(h *host, dev string) string {
	h.t.Helper()
	return h.sh("cat /sys/class/net/" + dev + "/address")
}

// linkFile waits until udev has looked at a device, and is the file that it took.
func linkFile(h *host, dev string) string {
	h.t.Helper()
	var text string
	h.until("udev has looked at "+dev, func() error {
		text = h.sh("udevadm info -q property --property=ID_NET_LINK_FILE --value /sys/class/net/" + dev)
		if text == "" {
			return errNot("a file")
		}
		return nil
	})
	return text
}

// dataPlane is what must not change when somebody restarts systemd-networkd.
const dataPlane = "ip -o link show dev tulle.1; ip -o link show dev cni0; ip -o -4 address; ip route; ip nexthop; ip neigh show nud permanent; bridge fdb show dev tulle.1"

// TestNetworkd has udev and systemd-networkd at work on hosts that were copied from
// each other, with one machine-id.
func TestNetworkd(t *testing.T) {
	require(t)
	n := newNetwork(t)
	etcd := startEtcd(t, n)
	setNetwork(etcd)
	nodes := []*host{newHost(t, n, "node1", "192.0.2.11"), newHost(t, n, "node2", "192.0.2.12")}
	const control = "control0"
	for _, h := range nodes {
		etc := filepath.Join(h.dir, "disk/etc")
		if err := os.MkdirAll(etc, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(etc, "machine-id"), []byte("5eed0000000000000000000000000001\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		h.boot()
		useNetworkd(h)
		install(t, h, older)
		join(etcd, h)
		h.sh("systemctl restart systemd-networkd.service") // which reads its networkd.conf only then
		h.sh("systemctl enable --now tulled.service; cp /usr/share/doc/tulle/examples/10-tulle.conflist " + podConflist)
		h.sh("ip link add " + control + " type vxlan id 99 dstport 4790 dev eth0")
	}
	pods := []pod{addPod(nodes[0]), addPod(nodes[1])}
	pods[0].reaches(pods[1])

	t.Run("udev leaves MAC addresses", func(t *testing.T) {
		for _, h := range nodes {
			veth := h.sh("ip -o link show master cni0 | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/'")
			for _, dev := range []string{"tulle.1", "cni0", veth} {
				if file := linkFile(h, dev); file != "/usr/lib/systemd/network/10-tulle.link" {
					t.Errorf("%s: udev took %s for %s", h.name, file, dev)
				}
			}
			if file := linkFile(h, control); strings.Contains(file, "tulle") {
				t.Errorf("%s: udev took %s for a device that is not ours", h.name, file)
			}
			if changes := h.sh("journalctl -q -o cat -u tulled | grep -c '\"set link\\|set link tulle' || true"); changes != "0" {
				t.Errorf("%s: somebody altered the device:\n%s", h.name, h.journal("tulled"))
			}
		}
		if one, two := mac(nodes[0], control), mac(nodes[1], control); one != two {
			t.Errorf("control: udev gave %s and %s, want one address for one machine-id", one, two)
		}
		if one, two := mac(nodes[0], "tulle.1"), mac(nodes[1], "tulle.1"); one == two {
			t.Errorf("both hosts have the address %s", one)
		}
	})
	h := nodes[0]
	const route = "203.0.113.0/24"
	strangers := func() string {
		h.sh("ip route replace " + route + " via " + router + " proto 99")
		h.sh("systemctl restart systemd-networkd.service")
		configured(h)
		return h.sh("ip route show " + route)
	}
	t.Run("networkd leaves routes and devices", func(t *testing.T) {
		for _, dev := range []string{"tulle.1", "cni0"} {
			if state := h.sh("networkctl --no-legend list " + dev + " | awk '{print $5}'"); state != "unmanaged" {
				t.Errorf("networkd has %s as %s, want unmanaged", dev, state)
			}
		}
		ping, before, told := pods[0].ping(pods[1]), h.sh(dataPlane), h.journal("tulled")
		if strangers() == "" {
			t.Error("networkd deleted a route that it did not make")
		}
		if after := strings.ReplaceAll(h.sh(dataPlane), h.sh("ip route show "+route)+" \n", ""); after != before {
			t.Errorf("after a restart of networkd:\n%s\nbefore:\n%s", after, before)
		}
		if now := h.journal("tulled"); now != told {
			t.Errorf("tulled had to put something right:\n%s", strings.TrimPrefix(now, told))
		}
		ping.lostNone("networkd was restarted")
	})
	t.Run("control: without our file networkd deletes routes", func(t *testing.T) {
		h.sh("mv /usr/lib/systemd/networkd.conf.d/10-tulle.conf /srv/")
		if left := strangers(); left != "" {
			t.Errorf("it left %s, so this test proves nothing", left)
		}
	})
}
