package lab

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// traces is all that tulled or the plugin could leave on a host. Empty tables of
// iptables and its base chains stay, as does /var/lib/cni: those are not tulle's.
var traces = []string{
	"ip -d -o link | sed 's/ promiscuity.*//'", "ip -o -4 address", "ip route show table all | grep -v 'multicast\\|broadcast\\|anycast\\|fe80\\|ff00'",
	"ip nexthop", "ip rule", "ip neigh show nud permanent", "bridge fdb show | grep -v 33:33: | grep -v 01:00:5e:", "iptables-save | grep -v '^[#:*]'", "ip6tables-save | grep -v '^[#:*]'",
	"nft list tables | grep -v 'ip6* \\(filter\\|nat\\)$'", "find /run/tulle /var/lib/tulle /var/lib/cni/networks -mindepth 1",
	"ls -d /run/tulle /var/lib/tulle",
}

func tracesOf(t *testing.T, h *Host) string {
	t.Helper()
	text, err := h.Exec(t.Context(), "sh", "-c", "{ "+strings.Join(traces, "; ")+"; true; } 2>/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestCleanup holds a host after tulled --cleanup against the same host before it
// knew of tulle.
func TestCleanup(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	const number = 2
	h := l.newHost("node2", RoleNode, firstLink, l.hostAddrs(func(a addressing) netip.Addr { return a.node(number, firstLink) }))
	l.Hosts = append(l.Hosts, h)
	if err := startHost(t.Context(), h, l.Bin, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.plug(h); err != nil {
		t.Fatal(err)
	}
	const strangers = `sysctl -qw net.ipv4.ip_forward=1
		iptables -A FORWARD -s 198.51.100.0/24 -j ACCEPT; ip6tables -A FORWARD -s fd00::/64 -j ACCEPT
		iptables -t nat -A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE
		ip link add strange0 type bridge; ip address add 198.51.100.1/24 dev strange0; ip link set strange0 up
		ip link add strange1 type vxlan id 77 dstport 8999 local 192.0.2.12
		ip route add 198.51.101.0/24 via 192.0.2.1 proto static; ip nexthop add id 7 via 192.0.2.1 dev eth0
		nft add table inet strange; mkdir -p /var/lib/cni/networks/strange; echo x > /var/lib/cni/networks/strange/198.51.100.9`
	if _, err := h.Exec(t.Context(), "sh", "-c", strangers); err != nil {
		t.Fatal(err)
	}
	before := tracesOf(t, h)
	clean := func() string {
		t.Helper()
		text, err := h.Exec(t.Context(), "tulled", "--cleanup")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := clean(); got != "nothing to clean\n" {
		t.Errorf("on a host that never had a tulled: %s", got)
	}

	startReady(t, h)
	if err := l.WaitPeers(t.Context()); err != nil {
		t.Fatal(err)
	}
	heals(t, func() error { return remembers(h, l.Nodes()) })
	pod, err := l.AddPod(t.Context(), h, "pod2-1")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := h.Exec(t.Context(), "tulled", "--cleanup"); err == nil || !strings.Contains(err.Error(), "another tulled of this host serves the network") {
		t.Errorf("beside a tulled that runs: %v\n%s", err, text)
	}
	stopDaemon(t, h, unix.SIGKILL)

	told := clean()
	for _, want := range []string{"delete link tulle.1 ", "delete route 10.244.", "kept bridge cni0, for pods are attached to it: veth"} {
		if !strings.Contains(told, want) {
			t.Errorf("with a pod attached it does not tell %q:\n%s", want, told)
		}
	}
	if told := clean(); !strings.HasPrefix(told, "kept bridge cni0, ") || strings.Count(told, "\n") != 1 {
		t.Errorf("a second time with a pod attached: %s", told)
	}
	if err := pingOnce(t.Context(), &h.Place, pod.Addr(), echoes[subnet.IPv4].small()); err != nil {
		t.Errorf("the pod that was attached: %v", err)
	}

	// As a host is left in real life: tulled is stopped, its pods are gone. One of them
	// had a MAC of its own, which the plugin remembers.
	startReady(t, h)
	const ownMAC = `unshare --net sleep 60 & pid=$!
		while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
		for verb in ADD DEL; do
			echo '{"cniVersion": "1.0.0", "name": "tulle", "type": "tulle"}' |
				CNI_COMMAND=$verb CNI_CONTAINERID=mac CNI_NETNS=/proc/$pid/ns/net CNI_IFNAME=eth0 CNI_PATH=/ CNI_ARGS=MAC=0a:00:00:00:00:01 tulle
		done
		kill $pid
		test -s /var/lib/cni/networks/tulle/announce`
	if _, err := h.Exec(t.Context(), "sh", "-euc", ownMAC); err != nil {
		t.Fatal(err)
	}
	if err := l.RemovePod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	stopDaemon(t, h, unix.SIGTERM)
	told = clean()
	t.Logf("\n%s", told)
	for _, want := range []string{"delete guard ", "delete jump ", "delete chain ", "delete bridge cni0\n", "delete folder " + filepath.Dir(daemonMemory) + "\n", "delete folder /var/lib/cni/networks/tulle\n"} {
		if !strings.Contains(told, want) {
			t.Errorf("it does not tell %q:\n%s", want, told)
		}
	}
	if after := tracesOf(t, h); after != before {
		t.Errorf("the host after the cleanup:\n%s\nbefore:\n%s", after, before)
	}
	if got := clean(); got != "nothing to clean\n" {
		t.Errorf("a second time: %s", got)
	}
}
