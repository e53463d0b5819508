package kernel

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	fresh(t)
	for _, command := range []string{
		"ip addr add 192.0.2.20/24 dev eth0",
		"ip addr add 2001:db8::20/128 dev eth0 nodad",
		"ip addr add 2001:db8::dead/64 dev eth0 nodad preferred_lft 0",
		"ip -6 route add default via 2001:db8::1 metric 512",
		"ip route add default metric 77 nexthop via 192.0.2.1 nexthop via 192.0.2.2",
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
	if want := [2]int{77, 512}; found[0].Metrics != want {
		t.Errorf("metrics of default routes are %v, want %v", found[0].Metrics, want)
	}
}

// On a host where pods come and go, a list of its devices is often broken off.
func TestListBrokenOff(t *testing.T) {
	times := 0
	got, err := listAll(func() ([]string, error) {
		if times++; times < 3 {
			return []string{"lo"}, netlink.ErrDumpInterrupted
		}
		return []string{"lo", "eth0"}, nil
	})
	if len(got) != 2 || err != nil {
		t.Errorf("a list that was whole the third time is %q, %v", got, err)
	}
	if _, err := listAll(func() ([]string, error) { return nil, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("a list that never is whole: %v, want %v", err, netlink.ErrDumpInterrupted)
	}
	if _, err := listAll(func() ([]string, error) { return nil, unix.EPERM }); !errors.Is(err, unix.EPERM) {
		t.Errorf("a list that is refused: %v, want %v", err, unix.EPERM)
	}
}
