package trace

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tulle/internal/golden"
	"tulle/internal/ruleset"
)

// host is a World that is only values.
type host struct {
	routes  map[string]Route // by destination, with the longest prefix that has it
	links   []Link
	neighs  map[string]Neigh // by device and address
	fdb     map[string]FDB   // by device and MAC address
	sysctls map[string]string
	rules   string // of iptables-save
	unread  []string
	pods    []Pod
	peers   []Peer
}

func (h host) Route(q Question) (Route, error) {
	best, found := Route{}, false
	for _, r := range h.routes {
		if r.Dst.Contains(q.Dst) && (!found || r.Dst.Bits() > best.Dst.Bits()) {
			best, found = r, true
		}
	}
	if !found {
		return best, errors.New("no route has it")
	}
	return best, nil
}

func (h host) Link(name string) (Link, bool) {
	for _, l := range h.links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

func (h host) Owner(a netip.Addr) (string, bool) {
	for _, l := range h.links {
		for _, p := range l.Addrs {
			if p.Addr() == a {
				return l.Name, true
			}
		}
	}
	return "", false
}

func (h host) Neigh(dev string, a netip.Addr) (Neigh, bool) {
	n, ok := h.neighs[dev+" "+a.String()]
	return n, ok
}
func (h host) FDB(dev, mac string) (FDB, bool)   { f, ok := h.fdb[dev+" "+mac]; return f, ok }
func (h host) Sysctl(name string) (string, bool) { v, ok := h.sysctls[name]; return v, ok }
func (h host) Rules() ruleset.Ruleset {
	return ruleset.Ruleset{Chains: ruleset.IPTables("iptables", h.rules), Unread: h.unread}
}

// own gives the host an address.
func (h *host) own(text, dev string) {
	p := netip.MustParsePrefix(text)
	for i := range h.links {
		if h.links[i].Name == dev && !slices.Contains(h.links[i].Addrs, p) {
			h.links[i].Addrs = append(h.links[i].Addrs, p)
		}
	}
	h.routes[text] = Route{Dst: netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), Type: "local", Table: "local", Protocol: "kernel", Dev: dev}
}

func (h host) AnyPod(like netip.Addr) (Pod, bool) { return h.pods[0], like.Is4() }
func (h host) Networks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
}
func (h host) Peers() []Peer { return h.peers }
func (h host) Pod(a netip.Addr) (Pod, bool) {
	for _, p := range h.pods {
		if p.Addr == a {
			return p, true
		}
	}
	return Pod{}, false
}

func route(text, dev, via string, id uint32) Route {
	r := Route{Dst: netip.MustParsePrefix(text), Type: "unicast", Table: "main", Protocol: "116", Dev: dev, NexthopID: id}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

// right is a node with a pod and a peer.
func right() *host {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	return &host{
		routes: map[string]Route{
			"default": route("0.0.0.0/0", "eth0", "192.0.2.1", 0),
			"link":    route("192.0.2.0/24", "eth0", "", 0),
			"own":     route("10.244.1.0/24", "cni0", "", 0),
			"peer":    route("10.244.2.0/24", "tulle.1", "10.244.2.0", 7),
			"self":    {Dst: prefix("192.0.2.11/32"), Type: "local", Table: "local", Protocol: "kernel", Dev: "lo"},
		},
		links: []Link{
			{Name: "lo", Up: true, Carrier: true, MTU: 65536},
			{Name: "eth0", Up: true, Carrier: true, MTU: 1500, Addrs: []netip.Prefix{prefix("192.0.2.11/24")}},
			{Name: "tulle.1", Kind: "vxlan", Up: true, Carrier: true, MTU: 1450, VNI: 1, Port: 8472, Local: addr("192.0.2.11"), Addrs: []netip.Prefix{prefix("10.244.1.0/32")}},
			{Name: "cni0", Kind: "bridge", Up: true, Carrier: true, MTU: 1450, Addrs: []netip.Prefix{prefix("10.244.1.1/24")}},
			{Name: "veth1", Kind: "veth", Up: true, Carrier: true, MTU: 1450, Master: "cni0", State: "forwarding", Alias: "default/web"},
			{Name: "veth2", Kind: "veth", Up: true, Carrier: true, MTU: 1450, Master: "cni0", State: "forwarding", Alias: "default/db"},
		},
		neighs: map[string]Neigh{
			"tulle.1 10.244.2.0": {"02:00:00:00:00:02", "permanent"},
			"eth0 192.0.2.12":    {"02:00:00:00:00:12", "reachable"},
			"cni0 10.244.1.3":    {"02:00:00:00:01:03", "reachable"},
		},
		fdb: map[string]FDB{
			"tulle.1 02:00:00:00:00:02": {Dst: addr("192.0.2.12")},
			"cni0 02:00:00:00:01:03":    {Port: "veth2"},
		},
		sysctls: map[string]string{"net/ipv4/conf/cni0/forwarding": "1", "net/ipv4/conf/tulle.1/forwarding": "1"},
		rules: `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:TULLE-FORWARD - [0:0]
-A FORWARD -j TULLE-FORWARD
-A TULLE-FORWARD -s 10.244.0.0/16 -j ACCEPT
-A TULLE-FORWARD -d 10.244.0.0/16 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.80/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.7:8080
-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE --random-fully
COMMIT
`,
		pods: []Pod{
			{Addr: addr("10.244.1.2"), Veth: "veth1", Name: "default/web", Container: "c1"},
			{Addr: addr("10.244.1.3"), Veth: "veth2", Name: "default/db", Container: "c2"},
			{Addr: addr("10.244.1.9"), Veth: "veth9", Container: "c9"},
		},
		peers: []Peer{{Name: "node2", Addrs: []netip.Addr{addr("192.0.2.12")}, Subnets: []netip.Prefix{prefix("10.244.2.0/24")}}},
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		do    func(*host)
		call  string // [SRC] DST
		where string
		says  string // in the end, or in a fault
	}{
		{"a pod of another node", nil, "10.244.2.5", AtNode, "node2"},
		{"a pod of this node from a pod", nil, "10.244.1.3", AtPod, "default/db"},
		{"a pod of this node from another node", nil, "10.244.2.5 10.244.1.3", AtPod, "default/db"},
		{"a pod of this node that has not spoken yet", nil, "10.244.2.5 10.244.1.2", AtPod, "default/web"},
		{"this host", nil, "192.0.2.11", AtHost, "this host"},
		{"the outside", nil, "198.51.100.1", AtOutside, "192.0.2.1"},
		{"a service's address", nil, "10.96.0.80", AtNode, "node2"},
		{"a service whose pod is the one that asks", func(h *host) {
			h.links[4].Hairpin = true
			h.rules = strings.Replace(h.rules, "10.244.2.7:8080", "10.244.1.2:8080", 1)
		}, "10.96.0.80", AtPod, "default/web"},
		{"the same at a port that sends nothing back", func(h *host) {
			h.rules = strings.Replace(h.rules, "10.244.2.7:8080", "10.244.1.2:8080", 1)
		}, "10.96.0.80", Nowhere, "bridge link set dev veth1 hairpin on"},
		{"from this host", nil, "192.0.2.11 10.244.2.5", AtNode, "node2"},
		{"another node itself", nil, "192.0.2.12", AtNode, "node2"},

		{"no pod has it", nil, "10.244.2.5 10.244.1.77", Nowhere, "no pod of this host has 10.244.1.77"},
		{"a bridge that shows netfilter what it switches", func(h *host) {
			h.links[3].Calls[0] = true
			h.rules = strings.Replace(h.rules, "-A FORWARD -j", "-A FORWARD -d 10.244.1.3 -j DROP\n-A FORWARD -j", 1)
		}, "10.244.1.3", Nowhere, "iptables -t filter -D FORWARD -d 10.244.1.3 -j DROP"},
		{"the pod is gone", nil, "10.244.2.5 10.244.1.9", Nowhere, "veth9 is gone"},
		{"no node holds it", nil, "10.244.77.1", Nowhere, "no node holds a subnet"},
		{"no route", func(h *host) { delete(h.routes, "peer") }, "10.244.2.5", Nowhere, "of node2 is missing"},
		{"no route at all", func(h *host) { h.routes = map[string]Route{} }, "10.244.2.5", Nowhere, "no route has it"},
		{"a more exact route", func(h *host) { h.routes["x"] = route("10.244.2.0/25", "eth0", "192.0.2.1", 0) }, "10.244.2.5", Nowhere, "another route leads"},
		{"a blackhole", func(h *host) {
			h.routes["x"] = Route{Dst: netip.MustParsePrefix("10.244.2.5/32"), Type: "blackhole", Table: "main", Protocol: "boot"}
		}, "10.244.2.5", Nowhere, "ip route del blackhole 10.244.2.5/32 table main"},
		{"a default route by a policy rule", func(h *host) {
			r := route("0.0.0.0/0", "eth0", "192.0.2.1", 0)
			r.Table = "99"
			h.routes = map[string]Route{"policy": r}
		}, "10.244.2.5", Nowhere, "ip rule add to 10.244.0.0/16 lookup main pref 1"},
		{"a policy rule that refuses", func(h *host) {
			h.routes = map[string]Route{"policy": {Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: "prohibit", Rule: "pref 40 from 10.244.0.0/16 prohibit", Pref: 40}}
		}, "10.244.2.5", Nowhere, "ip rule del pref 40"},
		{"a policy rule that refuses the outer packet", func(h *host) {
			h.routes["link"] = Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Type: "blackhole", Rule: "pref 40 to 192.0.2.12 blackhole", Pref: 40}
		}, "10.244.2.5", Nowhere, "ip rule del pref 40"},
		{"this host has the address of another node's pod", func(h *host) { h.own("10.244.2.5/32", "lo") }, "10.244.2.5", Nowhere, "ip address del 10.244.2.5/32 dev lo"},
		{"this host has the address of a pod", func(h *host) { h.own("10.244.1.3/24", "eth0") }, "10.244.2.5 10.244.1.3", Nowhere, "ip address del 10.244.1.3/24 dev eth0"},
		{"this host's end of the bridge", func(h *host) { h.own("10.244.1.1/24", "cni0") }, "10.244.1.1", AtHost, "10.244.1.1"},
		{"this host's end of the tunnel, from a pod beside it", func(h *host) { h.own("10.244.1.0/32", "tulle.1") }, "10.244.1.0", AtHost, "10.244.1.0"},
		{"that of any router on the link (RFC 4291)", func(h *host) {
			h.own("10.244.1.0/32", "tulle.1")
			r := h.routes["10.244.1.0/32"]
			r.Type = "anycast"
			h.routes["10.244.1.0/32"] = r
		}, "10.244.1.0", AtHost, "10.244.1.0"},
		{"an address of all hosts on the link", func(h *host) {
			h.routes["all"] = Route{Dst: netip.MustParsePrefix("192.0.2.255/32"), Type: "broadcast", Table: "local", Dev: "eth0"}
		}, "192.0.2.255", Nowhere, "for all hosts on the link"},
		{"no neighbour row", func(h *host) { delete(h.neighs, "tulle.1 10.244.2.0") }, "10.244.2.5", Nowhere, "no neighbour row"},
		{"no FDB row", func(h *host) { h.fdb = nil }, "10.244.2.5", Nowhere, "no FDB row"},
		{"an FDB row to another node", func(h *host) {
			h.peers[0].Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.99")}
			h.peers = append(h.peers, Peer{Name: "node3", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.12")}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}})
		}, "10.244.2.5", Nowhere, "node3 at 192.0.2.12, which does not hold 10.244.2.5"},
		{"the tunnel is down", func(h *host) { h.links[2].Up = false }, "10.244.2.5", Nowhere, "tulle.1 is down"},
		{"the underlay is down", func(h *host) { h.links[1].Up = false }, "10.244.2.5", Nowhere, "eth0, which leads to the other host, is down"},
		{"the other host is silent", func(h *host) { h.neighs["eth0 192.0.2.12"] = Neigh{State: "failed"} }, "10.244.2.5", Nowhere, "does not answer on eth0"},
		{"the underlay is too small", func(h *host) { h.links[1].MTU = 1400 }, "10.244.2.5", AtNode, "eth0 leaves it 1350"},
		{"the bridge is down", func(h *host) { h.links[3].Up = false }, "10.244.2.5", Nowhere, "cni0 is down"},
		{"the port is blocked", func(h *host) { h.links[4].State = "blocking" }, "10.244.2.5", Nowhere, "veth1 of cni0 is blocking"},
		{"the port is no port", func(h *host) { h.links[4].Master = "" }, "10.244.2.5", Nowhere, "not a port"},
		{"the port of the other pod is no port", func(h *host) {
			h.links[5].Master = ""
			h.fdb = nil
		}, "10.244.2.5 10.244.1.3", Nowhere, "ip link set veth2 master cni0"},
		{"the pod's own device is down", func(h *host) { h.links[4].Carrier, h.links[4].State = false, "disabled" }, "10.244.2.5", Nowhere, "has no carrier"},
		{"forwarding off", func(h *host) { h.sysctls["net/ipv4/conf/cni0/forwarding"] = "0" }, "10.244.2.5", Nowhere, "sysctl -w net.ipv4.conf.cni0.forwarding=1"},
		{"forwarding of the tunnel off", func(h *host) { h.sysctls["net/ipv4/conf/tulle.1/forwarding"] = "0" }, "10.244.2.5 10.244.1.3", Nowhere, "net.ipv4.conf.tulle/1.forwarding"},
		{"rp_filter and another way back", func(h *host) {
			h.sysctls["net/ipv4/conf/all/rp_filter"] = "1"
			h.routes["x"] = route("10.244.1.2/32", "eth0", "", 0)
		}, "10.244.2.5", Nowhere, "rp_filter of cni0"},
		{"rp_filter that is loose", func(h *host) {
			h.sysctls["net/ipv4/conf/all/rp_filter"] = "1"
			h.sysctls["net/ipv4/conf/cni0/rp_filter"] = "2"
			h.routes["x"] = route("10.244.1.2/32", "eth0", "", 0)
		}, "10.244.2.5", AtNode, "node2"},
		{"a policy that drops", func(h *host) { h.rules = strings.Replace(h.rules, "-A FORWARD -j TULLE-FORWARD\n", "", 1) }, "10.244.2.5", Nowhere, "iptables -t filter -P FORWARD ACCEPT"},
		{"a rule that drops", func(h *host) {
			h.rules = strings.Replace(h.rules, "-A FORWARD -j", "-A FORWARD -d 10.244.2.0/24 -j DROP\n-A FORWARD -j", 1)
		}, "10.244.2.5", Nowhere, "iptables -t filter -D FORWARD -d 10.244.2.0/24 -j DROP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := right()
			if tt.do != nil {
				tt.do(h)
			}
			var addrs []netip.Addr
			for text := range strings.FieldsSeq("0.0.0.0 " + tt.call) {
				addrs = append(addrs, netip.MustParseAddr(text))
			}
			src, dst := addrs[len(addrs)-2], addrs[len(addrs)-1]
			if src.IsUnspecified() {
				src = netip.Addr{}
			}
			got := Follow(h, src, dst, "", 0)
			text := got.End.Text + " " + got.End.Mend + " " + strings.Join(got.Faults(), " ")
			if got.End.Where != tt.where || !strings.Contains(text, tt.says) {
				t.Errorf("ends %s: %s\nwant %s with %q\n%+v", got.End.Where, text, tt.where, tt.says, got.Hops)
			}
			if got.Lost() && got.End.Mend == "" {
				t.Errorf("%s, and nothing says what to do", got.End.Text)
			}
		})
	}
}

// TestUnread: a trace says which rules it could not see.
func TestUnread(t *testing.T) {
	t.Parallel()
	h := right()
	h.unread = []string{"nft: not found"}
	got := Follow(h, netip.Addr{}, netip.MustParseAddr("10.244.2.5"), "", 0)
	if !slices.ContainsFunc(got.Hops, func(hop Hop) bool { return hop.Step == "rules" && strings.Contains(hop.Text, "nft: not found") }) {
		t.Errorf("no step says so: %+v", got.Hops)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, dst := range []string{"10.244.2.5", "10.96.0.80", "10.244.77.1"} {
		if err := Follow(right(), netip.Addr{}, netip.MustParseAddr(dst), "", 0).Write(&b, false); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
	}
	golden.Check(t, "trace.txt", b.String())
}
