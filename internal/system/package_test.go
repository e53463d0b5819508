package system

import (
	"strings"
	"testing"
)

// traces is all that the package, tulled or the plugin could leave on a host.
const traces = `set +e
	ip -d -o link | sed 's/ promiscuity.*//' | grep -v ': eth0@\|: lo:'
	ip -o -4 address; ip route; ip nexthop; ip rule; ip neigh show nud permanent; bridge fdb show | grep -v '33:33:\|01:00:5e:'
	iptables-save | grep '^-A\|TULLE'; ip6tables-save | grep '^-A\|TULLE'; nft list tables | grep tulle
	find / -xdev -name '*tulle*' -not -path '/proc/*' -not -path '/etc/tulle' -not -path '/srv/*' -not -path '/var/log/*'
	find /run /var/lib/systemd -name '*tulle*'; dpkg -l tulle 2>/dev/null | grep '^[a-z][a-z] '; true`

// install installs a package and checks that nothing was started.
func install(t *testing.T, h *host, version string) {
	t.Helper()
	h.copyIn(deb(t, version), "/srv/tulle.deb")
	told := h.sh("apt-get install -y /srv/tulle.deb 2>&1")
	if !strings.Contains(told, "say in /etc/default/tulled where etcd is") {
		t.Errorf("%s: the installation does not say what comes next:\n%s", h.name, told)
	}
	if state, _ := h.try("systemctl", "is-enabled", "tulled.service"); state != "disabled" {
		t.Errorf("%s: tulled.service is %q after the installation, want disabled", h.name, state)
	}
	if state, _ := h.try("systemctl", "is-active", "tulled.service"); state != "inactive" {
		t.Errorf("%s: tulled.service is %q after the installation, want inactive", h.name, state)
	}
	// Debian's containerd looks for plugins there.
	if plugin := h.sh("readlink -e /usr/lib/cni/tulle"); plugin != "/opt/cni/bin/tulle" {
		t.Errorf("%s: /usr/lib/cni/tulle leads to %q, want the plugin", h.name, plugin)
	}
}

// TestPackage is the life of two hosts with the package, from the installation to
// the purge.
func TestPackage(t *testing.T) {
	require(t)
	n := newNetwork(t)
	node1, node2 := newHost(t, n, "node1", "192.0.2.11"), newHost(t, n, "node2", "192.0.2.12")
	nodes := []*host{node1, node2}
	etcd := startEtcd(t, n)
	before := map[*host]string{}
	for _, h := range nodes {
		h.boot()
		before[h] = h.sh(traces)
	}
	// As many hosts have it: the second one's iptables are the legacy ones.
	node2.sh("update-alternatives --set iptables /usr/sbin/iptables-legacy; update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy")

	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		ok := t.Run(name, func(t *testing.T) {
			for _, h := range append(nodes, etcd) {
				h.t = t
			}
			f(t)
		})
		for _, h := range append(nodes, etcd) {
			h.t = t
		}
		if !ok {
			t.FailNow() // what follows depends on it
		}
	}
	var pods []pod
	var subnets []string
	subnetOf := func(h *host) string { return h.sh("grep FLANNEL_SUBNET /run/tulle/subnet.env") }

	step("install", func(t *testing.T) {
		for _, h := range nodes {
			install(t, h, older)
			join(etcd, h)
		}
		if text := node1.sh("man --version >/dev/null 2>&1 || true; tullectl --version; bash -n /usr/share/bash-completion/completions/tulled"); !strings.Contains(text, older) {
			t.Errorf("tullectl --version = %q, want %s", text, older)
		}
	})
	step("start before there is a network", func(t *testing.T) {
		node1.sh("systemctl enable tulled.service && systemctl start --no-block tulled.service")
		node1.until("the status says what tulled waits for", func() error {
			return wantText(node1.property("StatusText"), "waiting for etcd and a network configuration")
		})
		if state := node1.property("ActiveState"); state != "activating" {
			t.Errorf("tulled.service is %s while there is no network, want activating", state)
		}
		setNetwork(etcd)
		node1.until("it is ready", func() error { return wantText(node1.property("ActiveState"), "active") })
	})
	step("form an overlay", func(t *testing.T) {
		node2.sh("systemctl enable --now tulled.service") // returns when it is ready
		for _, h := range nodes {
			h.sh("cp /usr/share/doc/tulle/examples/10-tulle.conflist " + podConflist)
			pods = append(pods, addPod(h))
			subnets = append(subnets, subnetOf(h))
			if restarts := h.property("NRestarts"); restarts != "0" {
				t.Errorf("%s: tulled was restarted %s times:\n%s", h.name, restarts, h.journal("tulled"))
			}
			h.sh("tullectl status")
		}
		pods[0].reaches(pods[1])
		pods[1].reaches(pods[0])
		// The unit leaves tulled the right to probe its peers.
		node1.until("both nodes tell how they reach each other", func() error {
			text, err := node1.try("tullectl", "mesh")
			if err == nil && !strings.Contains(text, "2 of 2 ways between them looked at") {
				err = errNot(text)
			}
			return err
		})
		for _, h := range nodes { // as an operator calls it, who gives it no certificates
			if text, err := h.try("tullectl", "doctor"); err != nil {
				t.Errorf("%s: tullectl doctor on a healthy node: %v\n%s", h.name, err, text)
			}
		}
		if rules := node2.sh("iptables-legacy-save"); !strings.Contains(rules, "TULLE-POSTROUTING") {
			t.Errorf("no rules of tulled among those of legacy iptables:\n%s", rules)
		}
		if forward := node1.sh("cat /proc/sys/net/ipv4/ip_forward"); forward != "1" {
			t.Errorf("ip_forward = %s, want it set through ProtectKernelTunables", forward)
		}
	})
	step("the node's user has no more rights than its role", func(t *testing.T) {
		text, err := node1.try("sh", "-c", "set -a; . /etc/default/tulled; tullectl network set --network 10.0.0.0/8")
		if err == nil {
			t.Errorf("a node could change the network:\n%s", text)
		}
	})
	step("the service is exposed to little", func(t *testing.T) {
		for _, h := range nodes {
			text, err := h.try("systemd-analyze", "security", "--threshold=25", "--no-pager", "tulled.service")
			if err != nil {
				t.Errorf("more than 2.5: %v\n%s", err, text)
			}
			t.Log(text[strings.LastIndex(text, "\n")+1:])
		}
	})
	step("a tulled that hangs is started anew", func(t *testing.T) {
		node1.put("/run/systemd/system/tulled.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n", 0o644)
		node1.sh("systemctl daemon-reload && systemctl restart tulled.service")
		ping, was := pods[1].ping(pods[0]), node1.property("MainPID")
		node1.sh("kill -STOP " + was)
		node1.until("systemd starts another tulled", func() error {
			if node1.property("MainPID") == was {
				return errNot("another process")
			}
			return wantText(node1.property("ActiveState"), "active")
		})
		ping.lostNone("tulled hung")
		if text := node1.journal("tulled"); !strings.Contains(text, "Watchdog timeout") {
			t.Errorf("it was not the watchdog:\n%s", text)
		}
		node1.sh("rm -r /run/systemd/system/tulled.service.d && systemctl daemon-reload && systemctl restart tulled.service")
	})
	const pidOfSecond = "systemctl show --value -p MainPID tulled@second.service"
	step("a second network", func(t *testing.T) {
		etcd.sh(`. /etc/etcd/root.env
			etcdctl role grant-permission tulle-node --prefix=true read /tulle/second/
			etcdctl role grant-permission tulle-node --prefix=true readwrite /tulle/second/subnets/
			etcdctl put /tulle/second/config '{"Network": "10.99.0.0/16", "Backend": {"Type": "vxlan", "VNI": 2}}'`)
		was, ping := node1.property("MainPID"), pods[0].ping(pods[1])
		for _, h := range nodes {
			h.sh(`install -m 0600 /etc/default/tulled /etc/default/tulled-second
				systemctl enable --now tulled@second.service`)
			if file := h.sh("cat /run/tulle/second/subnet.env"); !strings.Contains(file, "FLANNEL_NETWORK=10.99.0.0/16\n") {
				t.Errorf("%s: the second network's file is:\n%s", h.name, file)
			}
			h.until("the second network has a state file of its own", func() error {
				_, err := h.try("test", "-e", "/var/lib/tulle/second/state.json")
				return err
			})
		}
		far := node2.sh("ip -4 -o address show dev tulle.2 | sed 's|.* inet \\([0-9.]*\\)/.*|\\1|'")
		node1.until("the nodes reach each other there", func() error {
			_, err := node1.try("ping", "-c", "1", "-W", "2", far)
			return err
		})
		if now := node1.property("MainPID"); now != was {
			t.Errorf("the tulled of the first network is the process %s, and was %s", now, was)
		}
		ping.lostNone("a second network was set up")
	})
	step("upgrade", func(t *testing.T) {
		for _, h := range nodes {
			h.copyIn(deb(t, newer), "/srv/newer.deb")
		}
		ping, was, second := pods[0].ping(pods[1]), node1.property("MainPID"), node1.sh(pidOfSecond)
		told := node1.sh("dpkg -i --force-confold /srv/newer.deb 2>&1")
		node1.until("the new tulled is ready", func() error {
			if node1.property("MainPID") == was {
				return errNot("another process")
			}
			return wantText(node1.property("ActiveState"), "active")
		})
		node1.until("that of the second network is a new one", func() error {
			if node1.sh(pidOfSecond) == second {
				return errNot("another process")
			}
			return wantText(node1.sh("systemctl show --value -p ActiveState tulled@second.service"), "active")
		})
		if text := node1.sh("tullectl status"); !strings.Contains(text, newer) {
			t.Errorf("after the upgrade:\n%s\n%s", text, told)
		}
		node2.sh("systemctl stop tulled.service && dpkg -i --force-confold /srv/newer.deb")
		if state, _ := node2.try("systemctl", "is-active", "tulled.service"); state != "inactive" {
			t.Errorf("a tulled that was stopped is %s after the upgrade, want inactive", state)
		}
		node2.sh("systemctl start tulled.service")
		ping.lostNone("both hosts were upgraded")
		if got := node1.sh("grep -c CLIENT /etc/default/tulled || true; grep -c ^TULLED_ETCD_CERTFILE /etc/default/tulled"); !strings.HasSuffix(got, "1") {
			t.Errorf("the settings did not survive the upgrade: %s", got)
		}
	})
	step("reboot", func(t *testing.T) {
		node1.powerOff()
		node1.boot()
		node1.until("tulled is ready", func() error { return wantText(node1.property("ActiveState"), "active") })
		if got := subnetOf(node1); got != subnets[0] {
			t.Errorf("after the reboot: %s, before: %s", got, subnets[0])
		}
		pods[0] = addPod(node1)
		pods[0].reaches(pods[1])
	})
	step("reboot while etcd is away", func(t *testing.T) {
		etcd.sh("systemctl stop etcd.service")
		node2.powerOff()
		node2.boot()
		node2.until("tulled is ready", func() error { return wantText(node2.property("ActiveState"), "active") })
		if got := subnetOf(node2); got != subnets[1] {
			t.Errorf("after the reboot: %s, before: %s", got, subnets[1])
		}
		pods[1] = addPod(node2)
		pods[1].reaches(pods[0])
		etcd.sh("systemctl start etcd.service")
	})
	step("a boot without etcd is not held up", func(t *testing.T) {
		etcd.sh("systemctl stop etcd.service")
		node2.sh("rm /var/lib/tulle/state.json")
		node2.powerOff()
		node2.boot() // returns with multi-user.target
		if state := node2.property("ActiveState"); state != "activating" {
			t.Errorf("tulled.service is %s without etcd, want activating", state)
		}
		etcd.sh("systemctl start etcd.service")
		node2.until("tulled is ready", func() error { return wantText(node2.property("ActiveState"), "active") })
		if got := subnetOf(node2); got != subnets[1] {
			t.Errorf("after the boot: %s, before: %s", got, subnets[1])
		}
		pods[1] = addPod(node2)
		pods[1].reaches(pods[0])
	})
	step("remove", func(t *testing.T) {
		ping := pods[0].ping(pods[1])
		for _, h := range nodes {
			told := h.sh("dpkg -r tulle 2>&1")
			if !strings.Contains(told, "pods keep their network") || !strings.Contains(told, "/var/lib/tulle/removed/cleanup") {
				t.Errorf("%s: the removal does not say how to clean up:\n%s", h.name, told)
			}
			if _, err := h.try("test", "-e", "/usr/sbin/tulled"); err == nil {
				t.Errorf("%s: tulled is still there", h.name)
			}
		}
		ping.lostNone("the packages were removed")
	})
	step("purge", func(t *testing.T) {
		// The plugin went with the package; a runtime's pods go with the host's drain
		// before. Here they go by hand.
		for _, h := range nodes {
			h.sh("rm /etc/default/tulled-second") // which is the operator's own
			h.sh("ip netns delete pod; rm -r /etc/cni; for dir in /var/lib/cni/networks/*; do find $dir -name '[v1]*' -delete; done")
			h.until("the pod's veth is gone", func() error {
				return wantText(h.sh("ip -o link show master cni0 | wc -l"), "0")
			})
			told := h.sh("dpkg -P tulle 2>&1")
			for _, want := range []string{"delete link tulle.1 ", "delete link tulle.2 ", "delete bridge cni0", "delete file /run/tulle/subnet.env"} {
				if !strings.Contains(told, want) {
					t.Errorf("%s: the purge does not tell %q:\n%s", h.name, want, told)
				}
			}
			if after := h.sh(traces); after != before[h] {
				t.Errorf("%s after the purge:\n%s\nbefore the installation:\n%s", h.name, after, before[h])
			}
		}
	})
	step("install and purge at once", func(t *testing.T) {
		install(t, node1, newer)
		join(etcd, node1)
		node1.sh("systemctl enable --now tulled.service && cp /usr/share/doc/tulle/examples/10-tulle.conflist " + podConflist)
		addPod(node1).remove()
		if told := node1.sh("dpkg -r tulle 2>&1; apt-get install -y /srv/tulle.deb 2>&1"); !strings.Contains(told, "systemctl enable --now tulled") {
			t.Errorf("an installation after a removal does not say that tulled is to be enabled:\n%s", told)
		}
		node1.sh("rm " + podConflist + " && apt-get purge -y tulle")
		if after := node1.sh(traces); after != before[node1] {
			t.Errorf("after the purge:\n%s\nbefore the installation:\n%s", after, before[node1])
		}
	})
}

type errNot string

func (e errNot) Error() string { return "not yet: " + string(e) }

func wantText(got, want string) error {
	if got != want {
		return errNot("it is " + got + ", want " + want)
	}
	return nil
}
