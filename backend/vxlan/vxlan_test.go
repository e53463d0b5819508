package vxlan_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/backend/vxlan"
	"tulle/internal/golden"
	"tulle/subnet"
)

func network(t *testing.T, text string) subnet.Network {
	t.Helper()
	n, err := subnet.ParseNetwork([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nodeLease is one of node N: 10.244.N.0/24 and, with both families, fd42:0:0:N::/64,
// at 192.0.2.N and 2001:db8::N.
func nodeLease(n int, pools [2]subnet.Pool) subnet.Lease {
	l := subnet.Lease{Node: fmt.Sprintf("node%d", n), Type: subnet.VXLAN}
	l.Addrs = [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n)), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))}
	data := fmt.Sprintf(`{"VNI":1,"VtepMAC":"0a:00:00:00:00:%02x"}`, n)
	if pools[subnet.IPv4].IsValid() {
		l.Subnets[subnet.IPv4], l.Data[subnet.IPv4] = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", n)), data
	}
	if pools[subnet.IPv6].IsValid() {
		l.Subnets[subnet.IPv6], l.Data[subnet.IPv6] = netip.MustParsePrefix(fmt.Sprintf("fd42:0:0:%d::/64", n)), data
	}
	return l
}

func nodeInput(n subnet.Network) backend.Input {
	self := nodeLease(1, n.Pools)
	return backend.Input{
		Network: n, Self: self, Owner: "tulle /tulle/network", Nexthops: true,
		Underlay: backend.Underlay{Dev: "eth0", Addrs: self.Addrs, MTU: 1500, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25")}},
	}
}

const (
	four = `{"Network": "10.244.0.0/16"}`
	both = `{"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd42::/48"}`
)

// Leases in, rows out.
func TestRows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		network string
		change  func(*backend.Input)
	}{
		{"two peers", four, func(*backend.Input) {}},
		{"both families", both, func(*backend.Input) {}},
		{"without nexthop objects", four, func(in *backend.Input) { in.Nexthops = false }},
		{"IPv6 underlay", four, func(in *backend.Input) { in.Underlay.Family = subnet.IPv6 }},
		{"direct routes on the link", `{"Network": "10.244.0.0/16", "Backend": {"DirectRouting": true}}`, func(*backend.Input) {}},
		{"direct routes of both families", `{"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd42::/48", "Backend": {"DirectRouting": true}}`, func(in *backend.Input) {
			in.Underlay.Prefixes = append(in.Underlay.Prefixes, netip.MustParsePrefix("2001:db8::/64"))
		}},
		{"direct routes without nexthop objects", `{"Network": "10.244.0.0/16", "Backend": {"DirectRouting": true}}`, func(in *backend.Input) { in.Nexthops = false }},
		{"options", `{"Network": "10.244.0.0/16", "Backend": {"VNI": 1, "Port": 4789, "MTU": 9000, "GBP": true, "Learning": true}}`, func(*backend.Input) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := network(t, test.network)
			in := nodeInput(n)
			test.change(&in)
			// Node 2 is on the link, node 200 is not.
			leases := subnet.NewLeases([]subnet.Record{{Lease: nodeLease(2, n.Pools)}, {Lease: nodeLease(200, n.Pools)}})
			state, faults := backend.Desired(vxlan.New(n), in, nil, leases)
			if len(faults) > 0 {
				t.Errorf("left out: %v", faults)
			}
			golden.Check(t, strings.ReplaceAll(test.name, " ", "-")+".txt", state.String())
		})
	}
}

// A lease that makes no sense is refused and named.
func TestPeerRefused(t *testing.T) {
	t.Parallel()
	n := network(t, four)
	in := nodeInput(n)
	for _, test := range []struct {
		name   string
		change func(*subnet.Lease)
		want   string
	}{
		{"another backend", func(l *subnet.Lease) { l.Type = "wireguard" }, `its backend is "wireguard", ours is "vxlan"`},
		{"plain routes, and no node of tulle", func(l *subnet.Lease) { l.Node, l.Type = "", subnet.HostGW }, `its backend is "host-gw", ours is "vxlan"`},
		{"plain routes still, and not on our link", func(l *subnet.Lease) {
			l.Type, l.Data, l.Addrs[subnet.IPv4] = subnet.HostGW, [2]string{}, netip.MustParseAddr("192.0.2.200")
		}, `its backend is "host-gw" still, and its public address 192.0.2.200 is not on the link of eth0 (192.0.2.0/25)`},
		{"outside of the network", func(l *subnet.Lease) { l.Subnets[subnet.IPv4] = netip.MustParsePrefix("8.8.8.0/24") }, "outside of the configured Network"},
		{"the whole network", func(l *subnet.Lease) { l.Subnets[subnet.IPv4] = netip.MustParsePrefix("10.244.0.0/16") }, "outside of the configured Network"},
		{"no address of our underlay's family", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.Addr{} }, "no IPv4 address"},
		{"an address of the link alone", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.MustParseAddr("169.254.0.1") }, "169.254.0.1 is not a host's"},
		{"loopback", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.MustParseAddr("127.0.0.1") }, "127.0.0.1 is not a host's"},
		{"multicast", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.MustParseAddr("224.0.0.1") }, "224.0.0.1 is not a host's"},
		{"broadcast", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.MustParseAddr("255.255.255.255") }, "255.255.255.255 is not a host's"},
		{"our own address", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.MustParseAddr("192.0.2.1") }, "192.0.2.1 is our own"},
		{"a pod's address", func(l *subnet.Lease) { l.Addrs[subnet.IPv4] = netip.MustParseAddr("10.244.7.7") }, "one of the pods' network"},
		{"no data", func(l *subnet.Lease) { l.Data[subnet.IPv4] = "" }, "no BackendData"},
		{"data of another type", func(l *subnet.Lease) { l.Data[subnet.IPv4] = "[1]" }, "BackendData [1]"},
		{"no MAC address", func(l *subnet.Lease) { l.Data[subnet.IPv4] = `{"VNI":1}` }, "VtepMAC"},
		{"half a MAC address", func(l *subnet.Lease) { l.Data[subnet.IPv4] = `{"VNI":1,"VtepMAC":"0a:00:00"}` }, "not a MAC address"},
		{"zero MAC address", func(l *subnet.Lease) { l.Data[subnet.IPv4] = `{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}` }, "not one device's"},
		{"a group's MAC address", func(l *subnet.Lease) { l.Data[subnet.IPv4] = `{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}` }, "not one device's"},
		{"our own MAC address", func(l *subnet.Lease) { l.Data = vxlan.New(n).Data("node1") }, "is our own"},
		{"another VNI", func(l *subnet.Lease) { l.Data[subnet.IPv4] = `{"VNI":7,"VtepMAC":"0a:00:00:00:00:02"}` }, "its VNI is 7, ours is 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := nodeLease(2, n.Pools)
			test.change(&l)
			if rows, err := vxlan.New(n).Peer(in, l); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Peer(%v) = %v, %v, want an error with %q", l, rows, err, test.want)
			}
		})
	}
}

// A node that has not followed yet from plain routes to VXLAN is reached as before.
func TestPeerThatHasNotFollowed(t *testing.T) {
	t.Parallel()
	n := network(t, four)
	in := nodeInput(n)
	in.Guard = backend.GuardStrict
	l := nodeLease(2, n.Pools)
	l.Type, l.Data = subnet.HostGW, [2]string{}
	rows, err := vxlan.New(n).Peer(in, l)
	if err != nil {
		t.Fatal(err)
	}
	const want = "source 192.0.2.2 dev tulle.1 from 10.244.2.0/24\nnexthop id 183763456 via 192.0.2.2 dev eth0\nroute 10.244.2.0/24 nhid 183763456\n"
	if got := backend.NewState(rows...).String(); got != want {
		t.Errorf("Peer(%v) =\n%s\nwant\n%s", l, got, want)
	}
}

// A peer that is to be reached in another way keeps its route: its nexthop object
// alone is set, after what it needs and before what it no longer needs.
func TestChangeOver(t *testing.T) {
	t.Parallel()
	tunnel, direct := network(t, four), network(t, `{"Network": "10.244.0.0/16", "Backend": {"DirectRouting": true}}`)
	leases := subnet.NewLeases([]subnet.Record{{Lease: nodeLease(2, tunnel.Pools)}})
	state := func(n subnet.Network) backend.State {
		s, _ := backend.Desired(vxlan.New(n), nodeInput(n), nil, leases)
		return s
	}
	for _, test := range []struct {
		name       string
		have, want backend.State
	}{
		{"to direct routes", state(tunnel), state(direct)},
		{"to the tunnel", state(direct), state(tunnel)},
	} {
		var text strings.Builder
		for _, c := range backend.Diff(test.want, test.have) {
			fmt.Fprintln(&text, c)
		}
		golden.Check(t, "change-"+strings.ReplaceAll(test.name, " ", "-")+".txt", text.String())
	}
}

// A flannel with both families has two devices, and unpacks what comes to either.
// Ours sends to the one of the family that it sends in, whatever is inside.
func TestPeerWithADeviceForEachFamily(t *testing.T) {
	t.Parallel()
	n := network(t, both)
	l := nodeLease(2, n.Pools)
	l.Node = ""
	l.Data = [2]string{`{"VNI":1,"VtepMAC":"0a:00:00:00:00:04"}`, `{"VNI":1,"VtepMAC":"0a:00:00:00:00:06"}`}
	for family, want := range [2]string{subnet.IPv4: "0a:00:00:00:00:04 192.0.2.2", subnet.IPv6: "0a:00:00:00:00:06 2001:db8::2"} {
		in := nodeInput(n)
		in.Underlay.Family = subnet.Family(family)
		rows, err := vxlan.New(n).Peer(in, l)
		if err != nil {
			t.Fatal(err)
		}
		neighbours := 0
		for _, row := range rows {
			switch row := row.(type) {
			case backend.FDB:
				if got := row.MAC.String() + " " + row.Dst.String(); got != want {
					t.Errorf("over %s: frames go to %s, want %s", in.Underlay.Family, got, want)
				}
			case backend.Neigh:
				neighbours++
				if !strings.HasPrefix(want, row.MAC.String()) {
					t.Errorf("over %s: %s, want the device of that family", in.Underlay.Family, row)
				}
			}
		}
		if neighbours != 2 {
			t.Errorf("over %s: %d neighbours, want one for each subnet", in.Underlay.Family, neighbours)
		}
	}
}

// A peer that has come to a network with one more family before us is reached in
// the family that we share.
func TestPeerWithAnotherFamilyMore(t *testing.T) {
	t.Parallel()
	n := network(t, four)
	in := nodeInput(n)
	in.Guard = backend.GuardStrict
	desired := func(l subnet.Lease) string {
		t.Helper()
		state, faults := backend.Desired(vxlan.New(n), in, nil, subnet.NewLeases([]subnet.Record{{Lease: l}}))
		if len(faults) > 0 {
			t.Errorf("left out: %v", faults)
		}
		return state.String()
	}
	if got, want := desired(nodeLease(2, network(t, both).Pools)), desired(nodeLease(2, n.Pools)); got != want {
		t.Errorf("Desired =\n%s\nwant\n%s", got, want)
	}
}

func TestSubnetOverTheUnderlay(t *testing.T) {
	t.Parallel()
	n := network(t, `{"Network": "192.0.0.0/16"}`)
	in := nodeInput(n)
	l := nodeLease(2, n.Pools)
	l.Subnets[subnet.IPv4] = netip.MustParsePrefix("192.0.2.0/24")
	l.Addrs[subnet.IPv4] = netip.MustParseAddr("198.51.100.2")
	if _, err := vxlan.New(n).Peer(in, l); err == nil || !strings.Contains(err.Error(), "covers our underlay address") {
		t.Errorf("Peer over our own underlay = %v, want an error", err)
	}
}

// The VTEP's MAC address follows from the node's name and the VNI, and from
// nothing else; it is a unicast address of no vendor.
func TestMAC(t *testing.T) {
	t.Parallel()
	one := vxlan.New(network(t, four))
	other := vxlan.New(network(t, `{"Network": "10.244.0.0/16", "Backend": {"VNI": 2}}`))
	wider := vxlan.New(network(t, `{"Network": "10.0.0.0/8", "Backend": {"Port": 4789}}`))
	if one.Data("node1") != wider.Data("node1") {
		t.Error("the MAC address changes with the network")
	}
	seen := map[string]bool{}
	for i := range 1000 {
		for _, v := range []vxlan.VXLAN{one, other} {
			data := v.Data(fmt.Sprintf("node%d", i))[subnet.IPv4]
			mac, err := backend.ParseMAC(data[strings.LastIndex(data, `:"`)+2 : len(data)-2])
			if err != nil || !mac.IsUnicast() || mac[0]&2 == 0 {
				t.Errorf("Data = %s, %v, want a locally administered unicast address", data, err)
			}
			if seen[mac.String()] {
				t.Errorf("two VTEPs have the MAC address %s", mac)
			}
			seen[mac.String()] = true
		}
	}
}

func TestMTU(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]int{
		four: {1450, 1430},
		`{"Network": "10.244.0.0/16", "Backend": {"MTU": 9000}}`: {8950, 8930},
	} {
		n := network(t, text)
		in := nodeInput(n)
		got := [2]int{vxlan.New(n).MTU(in.Underlay)}
		in.Underlay.Family = subnet.IPv6
		got[1] = vxlan.New(n).MTU(in.Underlay)
		if got != want {
			t.Errorf("MTU over IPv4 and IPv6 with %s = %v, want %v", text, got, want)
		}
	}
}
