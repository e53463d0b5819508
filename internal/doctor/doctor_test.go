package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tulle/internal/reach"
	"tulle/internal/ruleset"
	"tulle/internal/status"
	"tulle/internal/trace"
)

// healthy is a node that nothing is wrong with.
func healthy() Facts {
	own := netip.MustParsePrefix("10.244.193.0/24")
	return Facts{
		Started: true,
		State: status.Node{
			Name: "node1", Ready: true, Phase: "ready", Device: "tulle.1", MTU: 1450,
			Network:  `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}`,
			Underlay: &status.Underlay{Dev: "eth0", Address: "192.0.2.11", MTU: 1500},
			Etcd:     status.Etcd{Prefix: "/tulle/network", Connected: true},
			Peers:    []status.Peer{{Lease: status.Lease{Node: "node2", Subnets: []string{"10.244.57.0/24"}, Address: "192.0.2.12"}, Programmed: true}},
		},
		Subnets: [2]netip.Prefix{own},
		Etcd:    Etcd{Asked: true, SkewKnown: true, Skew: time.Second},
		Bridge:  "cni0",
		Pods:    []trace.Pod{{Addr: netip.MustParseAddr("10.244.193.2"), Veth: "veth1"}},
		Kernel:  Kernel{VXLAN: true, Nexthops: true, NFTables: true, Iptables: true, Conntracks: 10, ConntrackMost: 1000},
		Links: []trace.Link{
			{Name: "eth0", Up: true, Carrier: true, MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}},
			{Name: "tulle.1", Kind: "vxlan", Alias: "tulle /tulle/network", Up: true, Carrier: true, MTU: 1450, VNI: 1, Port: 8472, Addrs: []netip.Prefix{netip.MustParsePrefix("10.244.193.0/32")}},
			{Name: "cni0", Kind: "bridge", Up: true, Carrier: true, MTU: 1450, Addrs: []netip.Prefix{netip.MustParsePrefix("10.244.193.1/24"), netip.MustParsePrefix("fe80::1/64")}},
			{Name: "veth1", Kind: "veth", Up: true, Carrier: true, MTU: 1450, Master: "cni0", State: "forwarding", Alias: "default/web"},
		},
		Sysctls: map[string]string{
			"net/ipv4/ip_forward": "1", "net/ipv4/conf/cni0/forwarding": "1", "net/ipv4/conf/tulle.1/forwarding": "1", "net/bridge/bridge-nf-call-iptables": "1",
		},
		Ways: []Way{{"node2", trace.Trace{End: trace.End{Where: trace.AtNode}}}},
		Back: []Way{{"node2", trace.Trace{End: trace.End{Where: trace.AtPod}}}},
		Reached: []Reach{{
			Peer: "node2", Port: 8472, Overhead: 50, Target: reach.Target{Underlay: netip.MustParseAddr("192.0.2.12"), MTU: 1450},
			Sample: reach.Sample{Small: reach.Answered, Full: reach.Answered, Offloaded: reach.Answered},
		}},
		Disks: []Disk{{Path: "/var/lib/tulle", Free: 1 << 30}},
		CNI:   CNI{Runtime: "/run/containerd/containerd.sock", Dir: "/etc/cni/net.d", Confs: []Conf{{File: "/etc/cni/net.d/10-tulle.conflist", Plugins: []string{"tulle"}}}},
	}
}

// faults are what may be wrong, and the finding that must come of it, alone.
var faults = []struct {
	name string
	do   func(*Facts)
	id   string
	says string // in the text or the command
}{
	{"tulled is stopped", func(f *Facts) { f.Started, f.Silent = false, "connection refused" }, "tulled-silent", "systemctl start tulled"},
	{"tulled hangs", func(f *Facts) { f.Started, f.Hangs, f.Silent = false, true, "deadline exceeded" }, "tulled-silent", "systemctl restart tulled"},
	{"tulled waits", func(f *Facts) { f.State.Ready, f.State.Phase = false, "waiting for etcd" }, "tulled-waits", "waiting for etcd"},
	{"a route is missing", func(f *Facts) { f.State.Difference = []string{"add route 10.244.57.0/24 nhid 7"} }, "kernel-differs", "ip route del"},
	{"the kernel can't be read", func(f *Facts) { f.State.KernelErr = "permission denied" }, "kernel-differs", "permission denied"},
	{"many rows are missing", func(f *Facts) { f.State.Difference = []string{"a", "b", "c", "d", "e"} }, "kernel-differs", "a, b, c, and 2 more"},
	{"a lease makes no sense", func(f *Facts) { f.State.Peers[0].LeftOut = "its VNI is 9, ours is 1" }, "peer-left-out", "tullectl lease release 10.244.57.0/24"},
	{"a lease has our address", func(f *Facts) { f.State.Peers[0].LeftOut = "its public address 10.0.2.15 is our own" }, "address-of-peer", "--iface"},
	{"a key is none", func(f *Facts) { f.State.BadKeys = map[string]string{"x": "no subnet"} }, "key-no-lease", "etcdctl del '/tulle/network/subnets/x'"},
	{"something lasts", func(f *Facts) { f.State.Troubles = []string{"the state file can't be written"} }, "trouble", "state file"},
	{"no subnet file", func(f *Facts) { f.File = "no such file" }, "subnet-file", "no such file"},
	{"etcd is away", func(f *Facts) { f.Etcd = Etcd{Asked: true, Silent: "connection refused"} }, "etcd-silent", "curl"},
	{"etcd is away, with TLS", func(f *Facts) {
		f.Etcd = Etcd{Asked: true, Silent: "connection refused"}
		f.State.Etcd = status.Etcd{Endpoints: []string{"https://192.0.2.1:2379"}, CAFile: "ca.crt", CertFile: "c.crt", KeyFile: "c.key"}
	}, "etcd-silent", "curl -sS --cacert ca.crt --cert c.crt --key c.key https://192.0.2.1:2379/health"},
	{"etcd refuses", func(f *Facts) { f.Etcd.Refused = "wrong password" }, "etcd-refuses", "wrong password"},
	{"etcd lets nobody write", func(f *Facts) { f.Etcd.ReadOnly = "no right" }, "etcd-read-only", "readwrite /tulle/network/subnets/"},
	{"no Network", func(f *Facts) { f.Etcd.NoNetwork = "there is none" }, "etcd-no-network", "tullectl network set"},
	{"the lease is gone", func(f *Facts) { f.Etcd.Lease = "not in etcd" }, "etcd-lease", "not in etcd"},
	{"a certificate runs out soon", func(f *Facts) { f.Etcd.CertFile, f.Etcd.CertLeft = "/etc/tulle/etcd-client.crt", 50*time.Hour }, "etcd-certificate", "/etc/tulle/etcd-client.crt runs out in 50h"},
	{"a certificate has run out", func(f *Facts) { f.Etcd.CertFile, f.Etcd.CertLeft = "/etc/tulle/etcd-client.crt", -time.Hour }, "etcd-certificate", "has run out"},
	{"tulled is not enabled", func(f *Facts) { f.Unasked = true }, "tulled-disabled", "systemctl enable tulled"},
	{"the clock is ahead", func(f *Facts) { f.Etcd.Skew = time.Hour }, "clock", "1h0m0s ahead of"},
	{"the clock is behind", func(f *Facts) { f.Etcd.Skew = -time.Minute }, "clock", "1m0s behind"},
	{"no VXLAN", func(f *Facts) { f.Kernel.VXLAN = false }, "kernel-vxlan", "modprobe vxlan"},
	{"no nexthop objects", func(f *Facts) { f.Kernel.Nexthops = false }, "kernel-nexthop", "5.3"},
	{"no nftables", func(f *Facts) { f.Kernel.NFTables = false }, "kernel-nftables", "modprobe nf_tables"},
	{"neither nftables nor iptables", func(f *Facts) { f.Kernel.Iptables, f.Kernel.NFTables = false, false }, "iptables", "apt-get install iptables"},
	{"the table of connections is full", func(f *Facts) { f.Kernel.Conntracks = 990 }, "conntrack", "nf_conntrack_max=2000"},
	{"forwarding off", func(f *Facts) { f.Sysctls["net/ipv4/ip_forward"] = "0" }, "forwarding", "sysctl -w net.ipv4.ip_forward=1"},
	{"forwarding of the overlay's device off", func(f *Facts) { f.Sysctls["net/ipv4/conf/tulle.1/forwarding"] = "0" }, "forwarding", "sysctl -w net.ipv4.conf.tulle/1.forwarding=1"},
	{"forwarding of IPv6 off", func(f *Facts) {
		f.Subnets[1] = netip.MustParsePrefix("fd42::/64")
		f.Links[2].Addrs = append(f.Links[2].Addrs, netip.MustParsePrefix("fd42::1/64"))
		f.Sysctls["net/ipv6/conf/all/forwarding"] = "0"
		f.Sysctls["net/bridge/bridge-nf-call-ip6tables"] = "1"
	}, "forwarding", "net.ipv6.conf.all.forwarding=1"},
	{"br_netfilter is not loaded", func(f *Facts) { delete(f.Sysctls, "net/bridge/bridge-nf-call-iptables") }, "bridge-netfilter", "modprobe br_netfilter"},
	{"br_netfilter is off", func(f *Facts) { f.Sysctls["net/bridge/bridge-nf-call-iptables"] = "0" }, "bridge-netfilter", "sysctl -w"},
	{"the underlay is gone", func(f *Facts) { f.Links = f.Links[1:] }, "underlay", "eth0"},
	{"the underlay is down", func(f *Facts) { f.Links[0].Up = false }, "underlay", "ip link set eth0 up"},
	{"the underlay has no carrier", func(f *Facts) { f.Links[0].Carrier = false }, "underlay", "cable"},
	{"the underlay has another address", func(f *Facts) { f.Links[0].Addrs = nil }, "underlay", "192.0.2.11"},
	{"the tunnel is too large", func(f *Facts) {
		f.Ways[0].Trace.Hops = []trace.Hop{{Fault: "tulle.1 has an MTU of 1450 and eth0 leaves it 1350"}}
	}, "underlay-mtu", "1350"},
	{"the other node by another device", func(f *Facts) { f.Ways[0].Trace.Hops = []trace.Hop{{Fault: "the way is by eth1"}} }, "underlay-other", "eth1"},
	{"another host has our address", func(f *Facts) { f.Twice = []Twice{{netip.MustParseAddr("192.0.2.11"), "eth0", "02:00:00:00:00:99"}} }, "address-twice", "02:00:00:00:00:99"},
	{"IPv6 found our address at another host", func(f *Facts) { f.Twice = []Twice{{netip.MustParseAddr("2001:db8::1"), "eth0", ""}} }, "address-twice", "another host"},
	{"a packet to a peer is lost", func(f *Facts) {
		f.Ways[0].Trace.End = trace.End{Where: trace.Nowhere, Why: "no FDB row", Mend: "restart"}
	}, "way", "no FDB row"},
	{"the overlay is down", func(f *Facts) { f.Links[1].Up = false }, "way", "ip link set tulle.1 up"},
	{"a packet of a peer is lost", func(f *Facts) {
		f.Back[0].Trace.End = trace.End{Where: trace.Nowhere, Why: "rp_filter", Mend: "sysctl"}
	}, "way-back", "rp_filter"},
	{"a packet of a peer leaves again", func(f *Facts) { f.Back[0].Trace.End = trace.End{Where: trace.AtOutside, Text: "outside"} }, "way-back", "outside"},
	{"a rule drops", func(f *Facts) {
		f.Drops = []Drop{{"VXLAN", ruleset.Step{Table: "filter", Chain: "INPUT", Rule: "-j DROP", Delete: "iptables -D INPUT -j DROP"}}}
	}, "rule-drops", "iptables -D INPUT -j DROP"},
	{"a peer is silent", func(f *Facts) { f.Reached[0].Small, f.Reached[0].Direct = reach.Lost, reach.Lost }, "peer-silent", "192.0.2.12"},
	{"a peer is silent, with plain routes", func(f *Facts) { f.Reached[0].Port, f.Reached[0].Small = 0, reach.Lost }, "peer-silent", "node2 does not answer at 192.0.2.12"},
	{"large packets are lost, with plain routes", func(f *Facts) {
		f.Reached[0].Port, f.Reached[0].Overhead, f.Reached[0].Full, f.Reached[0].Largest = 0, 0, reach.Lost, 1400
	}, "mtu-hole", "--mtu 1400"},
	{"wrong checksums, with plain routes", func(f *Facts) {
		f.Reached[0].Port, f.Reached[0].Offloaded, f.Reached[0].Computed = 0, reach.Lost, reach.Answered
	}, "checksum", "ethtool -K eth0 tx off"},
	{"a port is blocked", func(f *Facts) { f.Reached[0].Small, f.Reached[0].Direct = reach.Lost, reach.Answered }, "tunnel-blocked", "UDP port 8472"},
	{"large packets are lost", func(f *Facts) { f.Reached[0].Full, f.Reached[0].Largest = reach.Lost, 1350 }, "mtu-hole", "--mtu 1400"},
	{"the kernel's checksums are wrong", func(f *Facts) { f.Reached[0].Offloaded, f.Reached[0].Computed = reach.Lost, reach.Answered }, "checksum", "ethtool -K tulle.1"},
	{"the kernel's checksums of the tunnel are wrong", func(f *Facts) {
		f.Reached[0].Small, f.Reached[0].Direct, f.Reached[0].Wrapped = reach.Lost, reach.Answered, reach.Answered
	}, "checksum", "ethtool -K eth0 tx off"},
	{"the bridge is down", func(f *Facts) { f.Links[2].Up = false }, "bridge-down", "ip link set cni0 up"},
	{"the bridge is another network's", func(f *Facts) { f.Links[2].Addrs = append(f.Links[2].Addrs, netip.MustParsePrefix("10.88.0.1/16")) }, "bridge-address", "10.88.0.1/16"},
	{"the bridge lacks its address", func(f *Facts) { f.Links[2].Addrs = nil }, "bridge-address", "ip address add 10.244.193.1/24 dev cni0"},
	{"a pod's device is down", func(f *Facts) { f.Links[3].Up = false }, "pod-port", "default/web"},
	{"a pod's port is blocked", func(f *Facts) { f.Links[3].State = "blocking" }, "pod-port", "blocking"},
	{"a pod's own device is down", func(f *Facts) { f.Links[3].Carrier, f.Links[3].State = false, "disabled" }, "pod-port", "no carrier"},
	{"a pod's port was taken from the bridge", func(f *Facts) { f.Links[3].Master, f.Links[3].State = "", "" }, "pod-port", "ip link set veth1 master cni0 && bridge link set dev veth1 hairpin on"},
	{"a device has an address of another node's pods", func(f *Facts) {
		f.Links[0].Addrs = append(f.Links[0].Addrs, netip.MustParsePrefix("10.244.57.77/24"))
	}, "address-of-pods", "ip address del 10.244.57.77/24 dev eth0"},
	{"rules can't be read", func(f *Facts) { f.Unread = []string{"nft: not found"} }, "rules-unread", "apt-get install nftables"},
	{"the bridge lacks its address, and IPv6", func(f *Facts) {
		f.Subnets[1] = netip.MustParsePrefix("fd42::/64")
		f.Sysctls["net/ipv6/conf/cni0/disable_ipv6"] = "1"
		f.Sysctls["net/bridge/bridge-nf-call-ip6tables"] = "1"
	}, "bridge-address", "sysctl -w net.ipv6.conf.cni0.disable_ipv6=0; ip address add fd42::1/64 dev cni0"},
	{"a pod's MTU is too large", func(f *Facts) { f.Links[3].MTU = 1500 }, "pod-mtu", "1450"},
	{"flannel's device", func(f *Facts) {
		f.Links = append(f.Links, trace.Link{Name: "flannel.1", Kind: "vxlan", VNI: 1, Port: 8473})
	}, "other-network", "ip link del flannel.1"},
	{"flannel's device, with an address of the network that both serve", func(f *Facts) {
		f.Links = append(f.Links, trace.Link{Name: "flannel.1", Kind: "vxlan", VNI: 1, Port: 8473, Addrs: []netip.Prefix{netip.MustParsePrefix("10.244.193.0/32")}})
	}, "other-network", "ip link del flannel.1"},
	{"a device with our VNI", func(f *Facts) {
		f.Links = append(f.Links, trace.Link{Name: "flannel.1", Kind: "vxlan", VNI: 1, Port: 8472})
	}, "vxlan-clash", "ip link del flannel.1"},
	{"no CNI configuration", func(f *Facts) { f.CNI.Confs = nil }, "cni-none", "10-tulle.conflist"},
	{"another one first", func(f *Facts) { f.CNI.Confs = append([]Conf{{File: "00-x", Plugins: []string{"x"}}}, f.CNI.Confs...) }, "cni-other", "remove 00-x"},
	{"another one alone", func(f *Facts) { f.CNI.Confs = []Conf{{File: "00-x", Plugins: []string{"x"}}} }, "cni-other", "remove 00-x"},
	{"a broken one", func(f *Facts) { f.CNI.Confs = append(f.CNI.Confs, Conf{File: "99-x", Err: "it is not JSON"}) }, "cni-broken", "99-x"},
	{"no plugin", func(f *Facts) { f.CNI.Plugin, f.CNI.Path = "it is not there", "/opt/cni/bin/tulle" }, "cni-plugin", "/opt/cni/bin/tulle"},
	{"a runtime that looks elsewhere", func(f *Facts) {
		f.CNI.Plugin, f.CNI.Path, f.CNI.There, f.CNI.Config = "it is not there", "/usr/lib/cni/tulle", "/opt/cni/bin/tulle", "/etc/containerd/config.toml"
	}, "cni-plugin", "ln -s /opt/cni/bin/tulle /usr/lib/cni/tulle"},
	{"a full disk", func(f *Facts) { f.Disks[0].Free = 1 << 10 }, "disk", "1 KiB"},
	{"a read-only disk", func(f *Facts) { f.Disks[0].ReadOnly = true }, "disk", "read-only"},
	{"no inodes", func(f *Facts) { f.Disks[0].NoInodes = true }, "disk", "df -i"},
	{"a file in the place of the folder", func(f *Facts) { f.Disks[0].Err = "is no directory" }, "disk", "no directory"},
}

func TestExamine(t *testing.T) {
	t.Parallel()
	if found := Examine(healthy()); len(found) > 0 {
		t.Errorf("a healthy node: %+v, want nothing", found)
	}
	seen := healthy()
	seen.Sysctls["net/bridge/bridge-nf-call-iptables"] = "0"
	seen.Links[2].Calls[0] = true
	if found := Examine(seen); len(found) > 0 {
		t.Errorf("a bridge that shows its packets to netfilter by itself: %+v, want nothing", found)
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := healthy()
			tt.do(&f)
			found := Examine(f)
			if len(found) != 1 || found[0].ID != tt.id || found[0].Severity == "" || found[0].Mend == "" {
				t.Fatalf("%+v, want one finding, %s", found, tt.id)
			}
			if text := found[0].Text + " " + found[0].Mend; !strings.Contains(text, tt.says) {
				t.Errorf("%q does not say %q", text, tt.says)
			}
		})
	}
}

// TestQuietWithoutRuntime: a host that runs no containers needs no plugin.
func TestQuietWithoutRuntime(t *testing.T) {
	t.Parallel()
	f := healthy()
	f.CNI = CNI{Plugin: "it is not there"}
	if found := Examine(f); len(found) > 0 {
		t.Errorf("%+v, want nothing", found)
	}
}

// TestEveryFindingIsTried: there is a fault for each finding that there can be.
func TestEveryFindingIsTried(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	seen := healthy()
	seen.Sysctls["net/bridge/bridge-nf-call-iptables"] = "0"
	seen.Links[2].Calls[0] = true
	if found := Examine(seen); len(found) > 0 {
		t.Errorf("a bridge that shows its packets to netfilter by itself: %+v, want nothing", found)
	}
	for _, tt := range faults {
		tried[tt.id] = true
	}
	for id := range severities {
		if !tried[id] {
			t.Errorf("no fault leads to the finding %s", id)
		}
	}
}

var findingRow = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (error|warning) \\|")

// TestEveryFindingIsDocumented: the page tells of each finding, and of no other.
func TestEveryFindingIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Documentation/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]Severity{}
	for _, m := range findingRow.FindAllStringSubmatch(string(text), -1) {
		have[m[1]] = Severity(m[2])
	}
	if !maps.Equal(have, severities) {
		t.Errorf("documented are %v, want %v", slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(severities)))
	}
}

func ExampleWrite() {
	f := healthy()
	f.Sysctls["net/ipv4/ip_forward"] = "0"
	var b strings.Builder
	_ = Write(&b, Examine(f), false)
	fmt.Print(b.String())
	// Output:
	// error   forwarding: net.ipv4.ip_forward is 0, so this host forwards nothing for
	//         pods
	//   mend  sysctl -w net.ipv4.ip_forward=1
}
