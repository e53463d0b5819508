package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"tulle/backend"
)

// The pods' bridge follows what pods may send, as far as the pods that are there
// allow.
func TestBridgeFollowsMTU(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	k := open(t)
	bridge := func(mtu int) backend.State {
		return backend.NewState(backend.Bridge{Addr: netip.MustParseAddr("10.244.1.1"), MTU: mtu})
	}
	want := bridge(1450)
	apply(t, k, want)
	same(t, k, want) // without a bridge
	for _, command := range []string{
		"ip link add other type bridge", "ip addr add 10.99.1.1/24 dev other", "ip link set other mtu 1500",
		"ip link add cni0 type bridge", "ip addr add 10.244.1.1/24 dev cni0", "ip link set cni0 mtu 1500",
		"ip link add pod type veth peer name inside", "ip link set pod mtu 1450 master cni0",
	} {
		run(t, command)
	}
	for _, test := range []struct {
		name, command string
		want          int // of the pods
		mtu           string
	}{
		{"larger than pods may send", "ip link set cni0 mtu 1500", 1450, "mtu 1450 "},
		{"pods may send less", "true", 1350, "mtu 1350 "},
		{"somebody makes it smaller", "ip link set cni0 mtu 1300", 1350, "mtu 1350 "},
		{"pods may send more, and one is there from before", "true", 8950, "mtu 1450 "},
		{"somebody makes it as large as pods may send now", "ip link set cni0 mtu 8950", 8950, "mtu 1450 "},
		{"the last pod from before is gone", "ip link del pod", 8950, "mtu 8950 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.enter(t)
			former := want
			run(t, test.command)
			apply(t, k, former) // what came before is put right first
			want = bridge(test.want)
			if _, err := k.Apply(t.Context(), backend.Diff(want, former)); err != nil {
				t.Fatal(err)
			}
			apply(t, k, want)
			same(t, k, want)
			if got := run(t, "ip link show cni0"); !strings.Contains(got, test.mtu) {
				t.Errorf("the bridge is %q, want %q", got, test.mtu)
			}
		})
	}
	if got := run(t, "ip link show other"); !strings.Contains(got, "mtu 1500 ") {
		t.Errorf("another bridge is %q, want mtu 1500 as before", got)
	}

	l := watching(t, h, want, k.Watch)
	run(t, "ip link set cni0 mtu 9000")
	if !l.woken(0) {
		t.Error("nobody heard that the bridge became larger")
	}
}
