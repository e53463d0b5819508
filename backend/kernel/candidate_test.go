package kernel

import (
	"slices"
	"testing"

	"tulle/backend"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	fresh(t)
	for _, command := range []string{
		"ip addr add 192.0.2.20/24 dev eth0",
		"ip addr add 2001:db8::20/128 dev eth0 nodad",
		"ip addr add 2001:db8::dead/64 dev eth0 nodad preferred_lft 0",
		"ip -6 route add default via 2001:db8::1 metric 512",
	} {
		run(t, command)
	}
	found, err := Candidates()
	if err != nil || len(found) != 1 {
		t.Fatalf("Candidates = %v, %v, want eth0", found, err)
	}
	var addrs []string
	for _, a := range found[0].Addrs {
		addrs = append(addrs, a.String())
	}
	// An address that came later is behind the older ones of its family.
	if want := []string{"192.0.2.10/24", "192.0.2.20/24", "2001:db8::10/64", "2001:db8::20/128"}; !slices.Equal(addrs, want) {
		t.Errorf("addresses are %v, want %v", addrs, want)
	}
	if want := [2]int{backend.NoDefault, 512}; found[0].Metrics != want {
		t.Errorf("metrics of default routes are %v, want %v", found[0].Metrics, want)
	}
}
