package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/internal/status"
	"tulle/subnet"
)

// strict makes a host drop what comes in by another device than that by which it
// would answer, as some distributions have it.
func strict(t *testing.T, h *Host) {
	t.Helper()
	for _, dev := range []string{"all", "default", uplink} {
		if err := h.Sysctl("net/ipv4/conf/"+dev+"/rp_filter", "1"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLabOfEachBackend is the proof for plain routes, on hosts that check the way
// back of what they receive, and a restart of each.
func TestLabOfEachBackend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options Options
	}{
		{"host-gw", Options{Backend: subnet.HostGW}},
		{"direct routes to some nodes", Options{Direct: true, Links: 2, Nodes: 3}},
		{"direct routes to some nodes, dual stack", Options{Direct: true, Links: 2, Nodes: 3, Families: families(t, "46"), Underlay: families(t, "46")}},
		{"direct routes to some nodes, dual stack over IPv6", Options{Direct: true, Links: 2, Nodes: 3, Families: families(t, "46"), Underlay: families(t, "46"), Network: []string{"--ipv6-underlay=true"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.options
			o.Nodes, o.Pods = max(2, o.Nodes), 2
			l := up(t, o)
			for _, h := range l.Nodes() {
				strict(t, h)
			}
			withIPTables(t, l.Nodes()[0])
			wantProved(t, l)
			restart(t, l, unix.SIGKILL)
			wantReached(t, l)
		})
	}
}

// wantReached checks that the daemons' own looks at each other find nothing wrong.
func wantReached(t *testing.T, l *Lab) {
	t.Helper()
	for _, h := range l.Nodes() {
		stopDaemon(t, h, unix.SIGTERM)
		startReady(t, h, "--probe-interval=100ms")
	}
	waitFor(t, func() error {
		var m status.Mesh
		text, err := get(t.Context(), l.Nodes()[0].Client(), daemonStatus+"/mesh")
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			return err
		}
		for _, n := range m.Nodes {
			if n.Error != "" || len(n.Peers) != len(l.Nodes())-1 {
				return fmt.Errorf("%s tells of %d peers, want %d: %s", n.Node, len(n.Peers), len(l.Nodes())-1, n.Error)
			}
			for subnet, p := range n.Peers {
				if p.Verdict != "good" {
					return fmt.Errorf("%s reaches %s: %s, want good", n.Node, subnet, p.Verdict)
				}
			}
		}
		return nil
	})
}

// wayTo waits until a node's kernel sends packets to a pod in some way, in the
// words of `ip route get`.
func wayTo(t *testing.T, h *Host, p *Pod, way string) {
	t.Helper()
	wayToAddr(t, h, p.Addr(), way)
}

func wayToAddr(t *testing.T, h *Host, a netip.Addr, way string) {
	t.Helper()
	heals(t, func() error {
		text, err := h.Exec(t.Context(), "ip", "route", "get", a.String())
		if err == nil && !strings.Contains(text, way) {
			err = fmt.Errorf("%s: the way to %s is %q, want %q", h.Name, a, strings.TrimSpace(text), way)
		}
		return err
	})
}

// programmed waits until every node has all rows of every peer, but for those that
// it should leave out.
func programmed(t *testing.T, l *Lab, leftOut map[string]string) {
	t.Helper()
	for _, h := range l.Nodes() {
		heals(t, func() error {
			n := stateOf(t, h)
			if len(n.Difference) > 0 {
				return fmt.Errorf("%s: the kernel differs in %q", h.Name, n.Difference)
			}
			for _, p := range n.Peers {
				want := leftOut[h.Name+" "+p.Node]
				if p.LeftOut != want && (want == "" || !strings.Contains(p.LeftOut, want)) || want == "" && !p.Programmed {
					return fmt.Errorf("%s: peer %s is programmed: %t; left out because %q, want %q; missing %q", h.Name, p.Node, p.Programmed, p.LeftOut, want, p.Missing)
				}
			}
			return nil
		})
	}
}

// TestChangeOver changes between the ways from node to node while packets travel.
// Two nodes are on one link, the third is behind a router.
func TestChangeOver(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 3, Pods: 1, Links: 2})
	one, two, three := l.Pods[0], l.Pods[1], l.Pods[2]
	tunnelled := rows(t.Context(), one.host)
	const network = "--network=10.244.0.0/16"
	const direct, tunnel = "via 192.0.2.12 dev eth0 ", "dev tulle.1 "
	behind := map[string]string{}
	for _, pair := range []string{"node1 node3", "node3 node1", "node2 node3", "node3 node2"} {
		behind[pair] = "use the backend vxlan with DirectRouting"
	}

	for _, tt := range []struct {
		name           string
		set            []string
		toTwo, toThree string // as node1 sends
		leftOut        map[string]string
		lossless       [2]bool // to node2, to node3
	}{
		{"direct routes on", []string{"--direct-routing=true"}, direct, tunnel, nil, [2]bool{true, true}},
		{"direct routes off", nil, tunnel, tunnel, nil, [2]bool{true, true}},
		{"direct routes on again", []string{"--direct-routing=true"}, direct, tunnel, nil, [2]bool{true, true}},
		{"host-gw", []string{"--backend=host-gw"}, direct, "via 192.0.2.1 dev eth0", behind, [2]bool{true, false}},
		{"vxlan without direct routes", nil, tunnel, tunnel, nil, [2]bool{}},
		{"host-gw at once", []string{"--backend=host-gw"}, direct, "via 192.0.2.1 dev eth0", behind, [2]bool{}},
		{"direct routes at once", []string{"--direct-routing=true"}, direct, tunnel, nil, [2]bool{true, false}},
		{"as it was", nil, tunnel, tunnel, nil, [2]bool{true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := probing(t, one, two), probing(t, one, three)
			wantAnswered(t, near)
			if err := l.SetNetwork(t.Context(), append(tt.set, network)...); err != nil {
				t.Fatal(err)
			}
			wayTo(t, one.host, two, tt.toTwo)
			wayTo(t, one.host, three, tt.toThree)
			programmed(t, l, tt.leftOut)
			wantAnswered(t, near)
			nearLost := near.Stop()
			if tt.lossless[0] && nearLost.Lost > 0 {
				t.Errorf("probe to a pod on the same link: %s, want none lost", nearLost)
			}
			if tt.leftOut == nil {
				wantAnswered(t, far)
			}
			farLost := far.Stop()
			t.Logf("to a pod on the same link %s; to one behind a router %s", nearLost, farLost)
			if tt.lossless[1] && farLost.Lost > 0 {
				t.Errorf("probe to a pod behind a router: %s, want none lost", farLost)
			}
			for _, h := range l.Nodes() {
				text, err := h.Exec(t.Context(), "sh", "-c", "ip -o link show type vxlan; nft list tables; ip route; ip nexthop")
				if left := strings.Contains(text, "tulle."); err != nil || left == (tt.leftOut != nil) {
					t.Errorf("%s: a device or table of VXLAN is there: %t, %v:\n%s", h.Name, left, err, text)
				}
			}
		})
	}
	heals(t, rowsAre(t, one.host, tunnelled))
	wantReached(t, l)
}

// probing starts a probe.
func probing(t *testing.T, from, to *Pod) *Probe {
	t.Helper()
	p, err := StartProbe(from, to, subnet.FamilyOf(to.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDirectRoutesAndTheLink changes what the nodes see of their link.
func TestDirectRoutesAndTheLink(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1, Direct: true})
	one, two := l.Pods[0], l.Pods[1]
	right := rows(t.Context(), one.host)
	sh := func(t *testing.T, h *Host, script string) {
		t.Helper()
		if _, err := h.ExecInput(t.Context(), script, "sh", "-eu"); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a shorter prefix that the peer is not in, and back", func(t *testing.T) {
		probe := probing(t, one, two)
		sh(t, one.host, "ip address add 192.0.2.11/30 dev eth0; ip address del 192.0.2.11/24 dev eth0; ip route replace 192.0.2.1 dev eth0; ip route replace default via 192.0.2.1")
		wayTo(t, one.host, two, "dev tulle.1 ")
		wayTo(t, two.host, one, "via 192.0.2.11 dev eth0 ")
		programmed(t, l, nil)
		sh(t, one.host, "ip address add 192.0.2.11/24 dev eth0; ip address del 192.0.2.11/30 dev eth0; ip route del 192.0.2.1; ip route replace default via 192.0.2.1")
		wayTo(t, one.host, two, "via 192.0.2.12 dev eth0 ")
		programmed(t, l, nil)
		wantNoneLost(t, probe)
		heals(t, rowsAre(t, one.host, right))
	})
	t.Run("the peer moves on the link", func(t *testing.T) {
		probe := probing(t, one, two)
		for _, move := range []struct{ from, to string }{{"192.0.2.12", "192.0.2.77"}, {"192.0.2.77", "192.0.2.12"}} {
			sh(t, two.host, fmt.Sprintf("ip address del %s/24 dev eth0; ip address add %s/24 dev eth0; ip route replace default via 192.0.2.1", move.from, move.to))
			begin := time.Now()
			wayTo(t, one.host, two, "via "+move.to+" dev eth0 ")
			wantAnswered(t, probe)
			t.Logf("traffic to %s after %s", move.to, time.Since(begin).Round(time.Millisecond))
		}
		t.Log(probe.Stop())
		programmed(t, l, nil)
		heals(t, rowsAre(t, one.host, right))
	})
	t.Run("a peer that has not followed sends in VXLAN what is answered the plain way", func(t *testing.T) {
		if err := l.SetNetwork(t.Context(), "--network=10.244.0.0/16"); err != nil {
			t.Fatal(err)
		}
		wayTo(t, one.host, two, "dev tulle.1 ")
		wayTo(t, two.host, one, "dev tulle.1 ")
		programmed(t, l, nil)
		stopDaemon(t, two.host, unix.SIGSTOP)
		strict(t, one.host)
		probe := probing(t, one, two)
		wantAnswered(t, probe)
		if err := l.SetNetwork(t.Context(), "--network=10.244.0.0/16", "--direct-routing=true"); err != nil {
			t.Fatal(err)
		}
		wayTo(t, one.host, two, "via 192.0.2.12 dev eth0 ")
		wayTo(t, two.host, one, "dev tulle.1 ")
		wantAnswered(t, probe)
		stopDaemon(t, two.host, unix.SIGCONT)
		wayTo(t, two.host, one, "via 192.0.2.11 dev eth0 ")
		programmed(t, l, nil)
		wantNoneLost(t, probe)
		heals(t, rowsAre(t, one.host, right))
	})
}

var directFaults = []rowFault{
	{name: "nexthop deleted", do: "ip nexthop del id $ID", told: "add nexthop"},
	{name: "nexthop altered", do: "ip nexthop replace id $ID via $ROUTER dev eth0 proto 116", told: "set nexthop"},
	{name: "nexthop replaced by hand", do: "ip nexthop replace id $ID via $ROUTER dev eth0", told: "add nexthop"},
	{name: "route deleted", do: "ip route del $DST", told: "add route"},
	{name: "route altered", do: "ip route replace $DST via $ROUTER dev eth0", told: "add route"},
	{name: "route altered under our protocol number", do: "ip route replace $DST via $ROUTER dev eth0 proto 116", told: "set route"},
	{name: "route made a blackhole", do: "ip route replace blackhole $DST", told: "add route"},
	{name: "route of nobody under our protocol number", do: "ip route add $NOSUBNET via $ROUTER proto 116", told: "delete route", lossless: true},
	{name: "all nexthops flushed", do: "ip nexthop flush proto 116"},
	{name: "forwarding off", do: "sysctl -qw $FORWARD=0"},
	{name: "forwarding of the device between nodes off", do: "sysctl -qw $CONF/eth0/forwarding=0", told: "set sysctl $CONF/eth0/forwarding"},
	{name: "jump deleted", do: "$IPTABLES -D FORWARD -j TULLE-FORWARD", told: "add jump", lossless: true},
}

// directFaults4 are those that are the same, or are not there, for IPv6.
var directFaults4 = []rowFault{
	{name: "nexthop of nobody under our protocol number", do: "ip nexthop add id 183827200 via 192.0.2.1 dev eth0 proto 116", told: "delete nexthop", lossless: true}, // 10.244.251.0
	{name: "device between nodes down and up", do: "ip link set eth0 down; ip link set eth0 up; ip route replace default via 192.0.2.1"},
}

var tunnelFaults = []rowFault{
	{name: "device of the tunnel deleted", do: "ip link del tulle.1", lossless: true},
	{name: "strict about the way back of the tunnel", do: "sysctl -qw net.ipv4.conf.tulle/1.rp_filter=1", told: "set sysctl net/ipv4/conf/tulle.1/rp_filter", lossless: true},
}

// TestFaultsOfPlainRoutes does to plain routes what TestFaultsOfRows does to those
// into the tunnel.
func TestFaultsOfPlainRoutes(t *testing.T) {
	t.Parallel()
	six := families(t, "6")
	for _, tt := range []struct {
		name    string
		options Options
		family  subnet.Family
		faults  []rowFault
	}{
		{"host-gw", Options{Backend: subnet.HostGW}, subnet.IPv4, slices.Concat(directFaults, directFaults4)},
		{"host-gw over IPv6", Options{Backend: subnet.HostGW, Families: six, Underlay: six}, subnet.IPv6, directFaults},
		{"direct routes", Options{Direct: true}, subnet.IPv4, slices.Concat(directFaults, directFaults4, tunnelFaults)},
		{"direct routes over IPv6", Options{Direct: true, Families: six, Underlay: six}, subnet.IPv6, slices.Concat(directFaults, tunnelFaults[:1])},
	} {
		tt.options.Nodes, tt.options.Pods = 2, 1
		t.Run(tt.name, func(t *testing.T) { sufferAll(t, tt.options, tt.family, tt.faults) })
	}
}
