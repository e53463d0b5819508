package lab

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// A host may have its addresses and its default route from router
// advertisements, which the kernel follows no longer when it forwards.
func TestRouterAdvertisements(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1, Families: families(t, "6"), Underlay: families(t, "6")})
	node := l.Nodes()[0]
	stopDaemon(t, node, unix.SIGTERM)
	sh := func(script string) string {
		t.Helper()
		text, err := node.ExecInput(t.Context(), script, "sh", "-eu")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	sh(`ip link del tulle.1; ip -6 route del default
		sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.eth0.accept_ra=1`)
	const learned = "ip -6 route show default proto ra; ip -6 address show dev eth0 dynamic"
	learns := func() {
		t.Helper()
		heals(t, func() error {
			l.advertise(t)
			if text := sh(learned); !strings.Contains(text, "default via fe80::") || !strings.Contains(text, "inet6 2001:db8:0:0:") && !strings.Contains(text, "inet6 2001:db8::") {
				return errNot("learned from the router: " + text)
			}
			return nil
		})
	}
	learns()
	startReady(t, node)
	if text := sh("sysctl -n net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra"); text != "1\n2\n" {
		t.Errorf("forwarding and accept_ra are %q, want 1 and 2", text)
	}
	if text := sh(learned); !strings.Contains(text, "default via fe80::") {
		t.Errorf("the default route is gone:\n%s", text)
	}
	// It is followed from then on, too, by a device made anew as well.
	sh("ip link set eth0 down; ip link del eth0")
	if err := l.plug(node); err != nil {
		t.Fatal(err)
	}
	sh("ip -6 route del default proto static || ip -6 route del default || true")
	learns()
	heals(t, func() error { return node.Ready(t.Context()) })
	wantRight(t, node)
}

// advertise sends a router advertisement (RFC 4861, section 4.2) from the
// underlay's router, with its prefix to make addresses of.
func (l *Lab) advertise(t *testing.T) {
	t.Helper()
	packet := append([]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}, // for 1800 s
		3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0) // on the link, for addresses, for an hour
	prefix := addresses[subnet.IPv6].underlay.Masked().Addr().As16()
	packet = append(packet, prefix[:]...)
	err := l.Host("underlay").Net(func() error {
		conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := ipv6.NewPacketConn(conn).SetMulticastHopLimit(255); err != nil {
			return err
		}
		_, err = conn.WriteTo(packet, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: string(firstLink)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func families(t *testing.T, text string) Families {
	t.Helper()
	s, err := ParseFamilies(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLabOfEachKind is the proof for each combination of families, way from node to
// node and firewall that makes sense. All of one row share their hosts: the first is
// as Up makes it and is tried with a restart, then the network and the firewall
// become each of the others. TestLab has the usual one, and TestLabOfEachBackend
// nodes on two links.
func TestLabOfEachKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, families, underlay string
		network                  []string // more flags of tullectl network set
		overlay                  subnet.Family
		firewall                 string // of the first
		ways                     int
	}{
		{"IPv4 alone", "4", "4", nil, subnet.IPv4, "iptables", 6},
		{"dual stack", "46", "46", nil, subnet.IPv4, "iptables", 6},
		{"dual stack over IPv6", "46", "46", []string{"--ipv6-underlay=true"}, subnet.IPv6, "nftables", 4},
		{"dual stack on hosts without IPv6", "46", "4", nil, subnet.IPv4, "nftables", 4},
		{"dual stack on hosts without IPv4", "46", "6", nil, subnet.IPv6, "iptables", 4},
		{"IPv6 alone", "6", "6", nil, subnet.IPv6, "nftables", 6},
		{"IPv6 pods on hosts without IPv6", "6", "4", nil, subnet.IPv4, "iptables", 2},
		{"IPv4 pods on hosts without IPv4", "4", "6", nil, subnet.IPv6, "nftables", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := up(t, Options{Nodes: 2, Pods: 2, Families: families(t, tt.families), Underlay: families(t, tt.underlay), Network: tt.network, Firewall: tt.firewall})
			node := l.Nodes()[0]
			withIPTables(t, node)
			wantProved(t, l)
			if text, local := dump(t, node), "local "+node.Addrs[tt.overlay].String()+" "; !strings.Contains(text, local) {
				t.Errorf("packets between nodes do not travel over %s: no device has %q:\n%s", tt.overlay, local, text)
			}
			restart(t, l, unix.SIGTERM)
			for _, h := range l.Nodes() {
				strict(t, h)
			}
			ways := l.ways()
			if tt.network != nil {
				ways = slices.DeleteFunc(ways, func(w way) bool { return w.backend == subnet.HostGW }) // which has no such option
			}
			if len(ways) != tt.ways {
				t.Errorf("there are %d ways, want %d: %v", len(ways), tt.ways, ways)
			}
			l.transferMB = 10 // which shows as well whether full packets arrive, and takes less of the time
			for _, w := range ways[1:] {
				t.Run(w.String(), func(t *testing.T) {
					l.become(t, w, tt.network...)
					wantProved(t, l)
				})
			}
		})
	}
}

// way is how packets get from node to node, and what lets them pass.
type way struct {
	backend  string
	direct   bool
	firewall string
}

func (w way) String() string {
	text := w.backend
	if w.direct {
		text += " with direct routes"
	}
	return text + " and " + w.firewall
}

// ways are those that make sense in a lab, its own first, and the others so that pods
// which are made in the first one never have too large an MTU.
func (l *Lab) ways() []way {
	tools := []string{"iptables", "nftables"}
	if l.Firewall != tools[0] {
		slices.Reverse(tools)
	}
	var ways []way
	for _, w := range []way{{backend: subnet.VXLAN}, {backend: subnet.VXLAN, direct: true}, {backend: subnet.HostGW}} {
		if (Options{Families: l.Families, Underlay: l.Underlay, Backend: w.backend, Direct: w.direct}).checkWay() != nil {
			continue
		}
		for _, w.firewall = range tools {
			ways = append(ways, w)
		}
	}
	return ways
}

// become changes the network and the firewall of all nodes, and checks that packets
// go the way that is meant.
func (l *Lab) become(t *testing.T, w way, network ...string) {
	t.Helper()
	l.backend, l.direct, l.Firewall = w.backend, w.direct, w.firewall
	if err := l.SetNetwork(t.Context(), append(l.networkFlags(), network...)...); err != nil {
		t.Fatal(err)
	}
	if err := each(l.Nodes(), func(h *Host) error { return h.RestartDaemon(t.Context(), unix.SIGTERM) }); err != nil {
		t.Fatal(err)
	}
	programmed(t, l, nil)
	c := l.cast()
	for _, f := range l.Families.List() {
		leads := "dev tulle.1 "
		if a := c.far.host.Addrs[f]; a.IsValid() && (w.direct || w.backend == subnet.HostGW) {
			leads = "via " + a.String() + " dev " + uplink + " "
		}
		wayToAddr(t, c.near.host, c.far.Addrs[f].Addr(), leads)
	}
}

// A network gets IPv6 while pods talk: nodes come to it one after another, each at
// its restart, and pods that are there notice nothing.
func TestNetworkGetsIPv6(t *testing.T) {
	t.Parallel()
	both := families(t, "46")
	l := up(t, Options{Nodes: 2, Pods: 1, Underlay: both})
	v := newVictim(t, l)
	before, log, probe := leaseKey(t, v.Host), v.journal(t), v.probe(t)
	l.Families = both
	if err := l.SetNetwork(t.Context(), l.networkFlags()...); err != nil {
		t.Fatal(err)
	}
	heals(t, log.tells(t, "its families are others; restart tulled"))
	for _, h := range l.Nodes() {
		if err := h.RestartDaemon(t.Context(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		programmed(t, l, nil)
	}
	if after := leaseKey(t, v.Host); !strings.HasPrefix(after, before+"&fd00:10:244:") {
		t.Errorf("the node's lease became %s, want %s and one of IPv6", after, before)
	}
	if kv, ok := l.read(t, subnetsDir+before); ok {
		t.Errorf("the lease of IPv4 alone is still there: %s", kv.Value)
	}
	if err := l.WaitPeers(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNoneLost(t, probe)
	for _, p := range []*Pod{v.near, v.far} { // new ones beside the old, then in their place
		if _, err := l.AddPod(t.Context(), p.Host(), p.Name+"-new"); err != nil {
			t.Fatal(err)
		}
		if err := l.RemovePod(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	wantWhole(t, l)
}

// A network whose packets between hosts are to travel over the other family is
// followed without a restart. Pods that were made before have too large an MTU
// then, and are told by their hosts.
func TestNetworkGoesOverIPv6(t *testing.T) {
	t.Parallel()
	both := families(t, "46")
	l := up(t, Options{Nodes: 2, Pods: 1, Families: both, Underlay: both})
	if err := l.SetNetwork(t.Context(), append(l.networkFlags(), "--ipv6-underlay=true")...); err != nil {
		t.Fatal(err)
	}
	for _, h := range l.Nodes() {
		heals(t, func() error {
			want := "local " + h.Addrs[subnet.IPv6].String() + " "
			if text := rows(t.Context(), h); !strings.Contains(text, want) {
				return fmt.Errorf("%s: no device has %q:\n%s", h.Name, want, text)
			}
			return nil
		})
		heals(t, func() error { return h.Ready(t.Context()) })
		wantRight(t, h)
	}
	for _, f := range both.List() {
		if _, err := fetchNoise(t.Context(), l.Pods[0], l.Pods[1], f, transferMB); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// The same with pods of IPv4 alone, where nothing of IPv6 was needed before: each node
// ends, and goes over when its supervisor has started it again.
func TestPodsOfIPv4GoOverIPv6(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"iptables", "nftables"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			l := up(t, Options{Nodes: 2, Pods: 1, Families: families(t, "4"), Underlay: families(t, "46"), Firewall: tool})
			node := l.Nodes()[0]
			four, right := node.Addrs[subnet.IPv4].String(), rows(t.Context(), node)
			if _, err := node.Exec(t.Context(), "ip", "address", "del", four+"/24", "dev", "eth0"); err != nil {
				t.Fatal(err)
			}
			heals(t, node.journal(t).tells(t, "eth0 has addresses of IPv6 alone by now"))
			if _, err := node.Exec(t.Context(), "sh", "-ec", "ip address add "+four+"/24 dev eth0; ip route replace default via 192.0.2.1"); err != nil {
				t.Fatal(err)
			}
			heals(t, rowsAre(t, node, right))
			logs := []journal{l.Nodes()[0].journal(t), l.Nodes()[1].journal(t)}
			if err := l.SetNetwork(t.Context(), append(l.networkFlags(), "--ipv6-underlay=true")...); err != nil {
				t.Fatal(err)
			}
			for i, h := range l.Nodes() {
				wantExit(t, h)
				logs[i].wantOnce(t, "packets between nodes travel over IPv6 from now on")
				startReady(t, h)
			}
			for _, h := range l.Nodes() {
				heals(t, func() error {
					want := "local " + h.Addrs[subnet.IPv6].String() + " "
					if text := rows(t.Context(), h); !strings.Contains(text, want) || !strings.Contains(text, " dst "+l.Nodes()[0].Addrs[subnet.IPv6].String()) && h != l.Nodes()[0] {
						return fmt.Errorf("%s: no device has %q, or no way leads there:\n%s", h.Name, want, text)
					}
					return nil
				})
				wantRight(t, h)
			}
			if _, err := fetchNoise(t.Context(), l.Pods[0], l.Pods[1], subnet.IPv4, transferMB); err != nil {
				t.Error(err)
			}
		})
	}
}

// Hosts that have IPv6 off for all their devices carry the pods' all the same.
func TestHostsWithIPv6Off(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Families: families(t, "46")})
	for i, h := range l.Nodes() {
		if i == 0 { // on the other one it goes off while tulled runs
			stopDaemon(t, h, unix.SIGTERM)
		}
		if _, err := h.Exec(t.Context(), "sh", "-ec", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1; [ $(sysctl -n net.ipv6.conf.eth0.disable_ipv6) = 1 ]"); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := h.Exec(t.Context(), "ip", "link", "del", "tulle.1"); err != nil {
				t.Fatal(err)
			}
			startReady(t, h)
		}
		for n := range 2 {
			if _, err := l.AddPod(t.Context(), h, fmt.Sprintf("pod%d-%d", i+1, n+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.WaitPeers(t.Context()); err != nil {
		t.Fatal(err)
	}
	programmed(t, l, nil)
	wantWhole(t, l)
}
