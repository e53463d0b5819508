package subnet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) Network {
	t.Helper()
	n, err := ParseNetwork([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A network can be filled to the last subnet, each of which is picked once.
func TestPickFillsTheNetwork(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"Network": "10.244.0.0/22", "SubnetLen": 26, "SubnetMin": "10.244.1.64", "SubnetMax": "10.244.3.0"}`,
		`{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd42::/58"}`,
	} {
		n := parse(t, text)
		f := IPv4
		if !n.Pools[f].IsValid() {
			f = IPv6
		}
		var leases []Lease
		seen := map[netip.Prefix]bool{}
		for i := range n.Pools[f].Size() {
			subnets, err := Pick(n, fmt.Sprintf("node%d", i), [2]netip.Prefix{}, leases)
			if s := subnets[f]; err != nil || seen[s] || !n.Pools[f].Contains(s) {
				t.Fatalf("Pick no. %d = %s, %v, want one that is free", i, s, err)
			}
			seen[subnets[f]] = true
			leases = append(leases, Lease{Subnets: subnets})
		}
		if got, err := Pick(n, "one too many", [2]netip.Prefix{}, leases); !errors.Is(err, ErrFull) {
			t.Errorf("Pick in a full network = %v, %v, want %v", got, err, ErrFull)
		}
	}
}

func TestPickAvoidsOtherLengths(t *testing.T) {
	t.Parallel()
	n := parse(t, `{"Network": "10.244.0.0/20", "SubnetLen": 24}`)
	leases := []Lease{lease("10.244.8.0/21"), lease("10.244.1.0/26"), lease("10.244.2.64/26")}
	free := map[string]bool{"10.244.3.0/24": true, "10.244.4.0/24": true, "10.244.5.0/24": true, "10.244.6.0/24": true, "10.244.7.0/24": true}
	for i := range 50 {
		subnets, err := Pick(n, fmt.Sprintf("node%d", i), [2]netip.Prefix{}, leases)
		if got := subnets[IPv4].String(); err != nil || !free[got] {
			t.Errorf("Pick = %s, %v, want one of %v", got, err, free)
		}
	}
}

// A node wants the same subnet every time, and different nodes seldom the same.
func TestPickSpreads(t *testing.T) {
	t.Parallel()
	n := parse(t, `{"Network": "10.0.0.0/8"}`)
	seen := map[netip.Prefix]int{}
	for i := range 1000 {
		node := fmt.Sprintf("node%d", i)
		first, _ := Pick(n, node, [2]netip.Prefix{}, nil)
		again, _ := Pick(n, node, [2]netip.Prefix{}, nil)
		if first != again {
			t.Errorf("%s wants %s and then %s", node, first[IPv4], again[IPv4])
		}
		seen[first[IPv4]]++
	}
	if len(seen) < 980 { // of 65,535 subnets; by chance some 8 of 1,000 nodes share one
		t.Errorf("1,000 nodes want %d different subnets", len(seen))
	}
}

func TestPickInAHugePool(t *testing.T) {
	t.Parallel()
	n := parse(t, `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "2000::/3", "IPv6SubnetLen": 126}`)
	subnets, err := Pick(n, "node1", [2]netip.Prefix{}, nil)
	if err != nil || !n.Pools[IPv6].Contains(subnets[IPv6]) {
		t.Errorf("Pick = %v, %v", subnets, err)
	}
}

// A garbage key may cover more subnets than can be looked at one by one.
func TestPickBesideAHugeLease(t *testing.T) {
	t.Parallel()
	n := parse(t, `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/12"}`)
	half := []Lease{{Subnets: [2]netip.Prefix{IPv6: netip.MustParsePrefix("fd00::/13")}}}
	free := netip.MustParsePrefix("fd08::/13")
	for i := range 10 {
		subnets, err := Pick(n, fmt.Sprintf("node%d", i), [2]netip.Prefix{}, half)
		if err != nil || !free.Contains(subnets[IPv6].Addr()) {
			t.Errorf("Pick = %v, %v, want one of %s", subnets, err, free)
		}
	}
	all := []Lease{{Node: "greedy", Subnets: [2]netip.Prefix{IPv6: netip.MustParsePrefix("fd00::/10")}}}
	if got, err := Pick(n, "node1", [2]netip.Prefix{}, all); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), all[0].String()) {
		t.Errorf("Pick where one lease has all = %v, %v, want %v and the lease", got, err, ErrFull)
	}
}
