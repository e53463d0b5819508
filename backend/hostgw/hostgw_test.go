package hostgw_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/backend/hostgw"
	"tulle/internal/golden"
	"tulle/subnet"
)

func network(t *testing.T, fields string) subnet.Network {
	t.Helper()
	n, err := subnet.ParseNetwork([]byte(`{"Network": "10.244.0.0/16", ` + fields + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	four = `"Backend": {"Type": "host-gw"}`
	both = `"EnableIPv6": true, "IPv6Network": "fd42::/48", "Backend": {"Type": "host-gw"}`
)

// lease is that of node N: 10.244.N.0/24 and, with both families, fd42:0:0:N::/64,
// at 192.0.2.N and 2001:db8::N.
func lease(n int, pools [2]subnet.Pool) subnet.Lease {
	l := subnet.Lease{Node: fmt.Sprintf("node%d", n), Type: subnet.HostGW}
	l.Addrs = [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n)), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))}
	for f, text := range []string{fmt.Sprintf("10.244.%d.0/24", n), fmt.Sprintf("fd42:0:0:%d::/64", n)} {
		if pools[f].IsValid() {
			l.Subnets[f] = netip.MustParsePrefix(text)
		}
	}
	return l
}

func input(n subnet.Network) backend.Input {
	self := lease(1, n.Pools)
	return backend.Input{
		Network: n, Self: self, Owner: "tulle /tulle/network", Nexthops: true, Guard: backend.GuardStrict,
		Underlay: backend.Underlay{Dev: "eth0", Addrs: self.Addrs, MTU: 1500, Prefixes: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("2001:db8::/64"),
		}},
	}
}

// Leases in, rows out. Node 2 is on the link, node 200 is not.
func TestRows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		network string
		change  func(*backend.Input)
	}{
		{"a peer on the link and one that is not", four, func(*backend.Input) {}},
		{"both families", both, func(*backend.Input) {}},
		{"without nexthop objects", four, func(in *backend.Input) { in.Nexthops = false }},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := network(t, test.network)
			in := input(n)
			test.change(&in)
			leases := subnet.NewLeases([]subnet.Record{{Lease: lease(2, n.Pools)}, {Lease: lease(200, n.Pools)}})
			state, faults := backend.Desired(hostgw.New(n), in, nil, leases)
			text := state.String()
			for key, err := range faults {
				text += fmt.Sprintf("left out: %s: %v\n", key, err)
			}
			golden.Check(t, strings.ReplaceAll(test.name, " ", "-")+".txt", text)
		})
	}
}

// A lease that can't be reached by a plain route is refused, and the reason is
// named.
func TestPeerRefused(t *testing.T) {
	t.Parallel()
	four, both := network(t, four), network(t, both)
	for _, test := range []struct {
		name    string
		network subnet.Network
		change  func(*backend.Input, *subnet.Lease)
		want    string
	}{
		{"another backend", four, func(_ *backend.Input, l *subnet.Lease) { l.Type = "udp" }, `its backend is "udp", ours is "host-gw"`},
		{"VXLAN, and no node of tulle", four, func(_ *backend.Input, l *subnet.Lease) { l.Type, l.Node = subnet.VXLAN, "" }, `its backend is "vxlan", ours is "host-gw"`},
		{"outside of the network", four, func(_ *backend.Input, l *subnet.Lease) { l.Subnets[0] = netip.MustParsePrefix("8.8.8.0/24") }, "outside of the configured Network"},
		{"over our own address", network(t, `"NETWORK": "192.0.0.0/16", "Backend": {"Type": "host-gw"}`), func(_ *backend.Input, l *subnet.Lease) { l.Subnets[0] = netip.MustParsePrefix("192.0.2.0/24") }, "covers our underlay address 192.0.2.1"},
		{"on another link", four, func(_ *backend.Input, l *subnet.Lease) { l.Addrs[0] = netip.MustParseAddr("198.51.100.2") },
			"its public address 198.51.100.2 is not on the link of eth0 (192.0.2.0/25, 2001:db8::/64), and host-gw has no other way; where some nodes are on another link, use the backend vxlan with DirectRouting"},
		{"our own address", four, func(_ *backend.Input, l *subnet.Lease) { l.Addrs[0] = netip.MustParseAddr("192.0.2.1") }, "192.0.2.1 is our own"},
		{"a pod's address", four, func(_ *backend.Input, l *subnet.Lease) { l.Addrs[0] = netip.MustParseAddr("10.244.7.7") }, "one of the pods' network"},
		{"loopback", four, func(_ *backend.Input, l *subnet.Lease) { l.Addrs[0] = netip.MustParseAddr("127.0.0.1") }, "127.0.0.1 is not a host's"},
		{"no IPv4 address for its IPv4 subnet", four, func(_ *backend.Input, l *subnet.Lease) { l.Addrs[0] = netip.Addr{} }, "it has no IPv4 address, which plain routes to its subnet 10.244.2.0/24 need"},
		{"no IPv6 address for its IPv6 subnet", both, func(_ *backend.Input, l *subnet.Lease) { l.Addrs[1] = netip.Addr{} }, "it has no IPv6 address"},
		{"no IPv6 address of ours", both, func(in *backend.Input, _ *subnet.Lease) { in.Underlay.Addrs[1] = netip.Addr{} }, "our device eth0 has no IPv6 address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, l := input(test.network), lease(2, test.network.Pools)
			test.change(&in, &l)
			if rows, err := hostgw.New(test.network).Peer(in, l); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Peer(%v) = %v, %v, want an error with %q", l, rows, err, test.want)
			}
		})
	}
}

// A node that has not followed yet from VXLAN to plain routes is on the link all
// the same.
func TestPeerThatHasNotFollowed(t *testing.T) {
	t.Parallel()
	n := network(t, four)
	plain, vxlan := lease(2, n.Pools), lease(2, n.Pools)
	vxlan.Type, vxlan.Data[0] = subnet.VXLAN, `{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"}`
	want, _ := hostgw.New(n).Peer(input(n), plain)
	if got, err := hostgw.New(n).Peer(input(n), vxlan); err != nil || fmt.Sprint(got) != fmt.Sprint(want) || len(want) == 0 {
		t.Errorf("Peer(%v) = %v, %v, want %v as for %s", vxlan, got, err, want, subnet.HostGW)
	}
}

func TestMTU(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]int{four: 1500, `"Backend": {"Type": "host-gw", "MTU": 1400}`: 1400} {
		n := network(t, fields)
		if got := hostgw.New(n).MTU(input(n).Underlay); got != want {
			t.Errorf("MTU with %s = %d, want %d", fields, got, want)
		}
	}
}
