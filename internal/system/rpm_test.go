package system

import (
	"strings"
	"testing"
)

// TestRPM is the life of a host with the other kind of package. rpm itself installs
// it, with the scripts in it, on a host that knows none of the packages that it
// needs by rpm's names.
func TestRPM(t *testing.T) {
	require(t)
	n := newNetwork(t)
	etcd := startEtcd(t, n)
	setNetwork(etcd)
	h := newHost(t, n, "node1", "192.0.2.11")
	h.boot()
	before := h.sh(traces)
	h.copyIn(rpm(t, older), "/srv/older.rpm")
	h.copyIn(rpm(t, newer), "/srv/newer.rpm")
	const force = " --force-debian --nodeps "

	if needs := h.sh("rpm -qp --requires /srv/older.rpm"); !strings.Contains(needs, "kmod") || strings.Contains(needs, "iptables") {
		t.Errorf("the package needs:\n%s\nwant kmod, and iptables only recommended", needs)
	}
	told := h.sh("rpm -i" + force + "/srv/older.rpm 2>&1")
	if !strings.Contains(told, "say in /etc/default/tulled where etcd is") {
		t.Errorf("the installation does not say what comes next:\n%s", told)
	}
	if state, _ := h.try("systemctl", "is-enabled", "tulled.service"); state != "disabled" {
		t.Errorf("tulled.service is %q after the installation, want disabled", state)
	}
	if altered := h.sh("rpm -V --nodeps tulle"); altered != "" {
		t.Errorf("files are not as the package says:\n%s", altered)
	}
	join(etcd, h)
	h.sh("systemctl enable --now tulled.service && cp /usr/share/doc/tulle/examples/10-tulle.conflist " + podConflist)
	p := addPod(h)
	outside := pod{etcd, router}
	p.reaches(outside)

	ping, was := p.ping(outside), h.property("MainPID")
	h.sh("rpm -U" + force + "/srv/newer.rpm")
	h.until("the new tulled is ready", func() error {
		if h.property("MainPID") == was {
			return errNot("another process")
		}
		return wantText(h.property("ActiveState"), "active")
	})
	if text := h.sh("tullectl status; grep ^TULLED_ETCD_CERTFILE /etc/default/tulled"); !strings.Contains(text, newer) {
		t.Errorf("after the upgrade:\n%s", text)
	}
	told = h.sh("rpm -e --nodeps tulle 2>&1")
	if !strings.Contains(told, "pods keep their network") || !strings.Contains(told, "/var/lib/tulle/removed/cleanup") {
		t.Errorf("the removal does not say how to clean up:\n%s", told)
	}
	if _, err := h.try("test", "-e", "/usr/sbin/tulled"); err == nil {
		t.Error("tulled is still there")
	}
	ping.lostNone("the package was upgraded and removed")

	h.sh("ip netns delete pod; rm -r /etc/cni /etc/default/tulled.rpmsave; for dir in /var/lib/cni/networks/*; do find $dir -name '[v1]*' -delete; done")
	h.until("the pod's veth is gone", func() error { return wantText(h.sh("ip -o link show master cni0 | wc -l"), "0") })
	told = h.sh("/var/lib/tulle/removed/cleanup")
	if after := h.sh(traces); after != before {
		t.Errorf("after the cleanup, which told:\n%s\nthere is:\n%s\nbefore the installation:\n%s", told, after, before)
	}
}
