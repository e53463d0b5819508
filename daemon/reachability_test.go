package main

import (
	"net/netip"
	"testing"
	"time"

	"tulle/internal/reach"
	"tulle/subnet"
)

// A peer is looked at by both families in turn, however many peers there are.
func TestFamiliesTakeTurns(t *testing.T) {
	t.Parallel()
	four, six := reach.Target{Overlay: netip.MustParseAddr("10.244.1.0")}, reach.Target{Overlay: netip.MustParseAddr("fd42::1")}
	for _, test := range []struct {
		name    string
		targets [2]reach.Target
		want    []subnet.Family
	}{
		{"IPv4", [2]reach.Target{subnet.IPv4: four}, []subnet.Family{subnet.IPv4, subnet.IPv4, subnet.IPv4}},
		{"IPv6", [2]reach.Target{subnet.IPv6: six}, []subnet.Family{subnet.IPv6, subnet.IPv6, subnet.IPv6}},
		{"both", [2]reach.Target{subnet.IPv4: four, subnet.IPv6: six}, []subnet.Family{subnet.IPv4, subnet.IPv6, subnet.IPv4, subnet.IPv6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var known reached
			at := time.Unix(1, 0)
			for i, want := range test.want {
				f, target := known.next(test.targets)
				if f != want || target != test.targets[want] {
					t.Fatalf("look %d is by %s at %v, want by %s", i, f, target.Overlay, want)
				}
				at = at.Add(time.Second)
				known = known.with(f, reach.Sample{At: at, Sent: 1})
			}
		})
	}
}
