package etcd

import (
	"errors"
	"net/netip"
	"testing"

	"tulle/subnet"
)

// The node's address has changed twice, and its watch is late: the lease with the
// first of the new ones is its own, of a moment ago, and not another node's.
func TestOwnLeaseOfBefore(t *testing.T) {
	t.Parallel()
	at := func(addr string) subnet.Lease {
		return subnet.Lease{
			Node: "node1", Type: subnet.VXLAN,
			Subnets: [2]netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}, Addrs: [2]netip.Addr{netip.MustParseAddr(addr)},
		}
	}
	claim := func(subnet.Network) (Claim, error) { return Claim{}, nil }
	const wrote = 20
	for _, tt := range []struct {
		name     string
		modified int64
		want     error
	}{
		{"from before we wrote", wrote - 1, nil},
		{"from after we wrote", wrote + 1, ErrTaken},
	} {
		s := &Store{lost: make(chan struct{}, 1), held: held{claim: claim, lease: at("192.0.2.12"), rev: wrote}}
		v := &view{leases: subnet.NewLeases([]subnet.Record{{Lease: at("192.0.2.11"), Created: 3, Modified: tt.modified}})}
		if err := s.checkOwn(v); !errors.Is(err, tt.want) {
			t.Errorf("%s: checkOwn = %v, want %v", tt.name, err, tt.want)
		}
		if looks := len(s.lost) == 1; looks != (tt.want == nil) {
			t.Errorf("%s: Keep has a look: %t", tt.name, looks)
		}
	}
}
