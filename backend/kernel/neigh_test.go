package kernel

import (
	"strings"
	"testing"
)

// Rows that flood are several with one MAC address, and one pass takes all away.
func TestRowsThatFlood(t *testing.T) {
	t.Parallel()
	fresh(t)
	k := open(t)
	want := whole()
	apply(t, k, want)
	for _, dst := range []string{"192.0.2.98", "192.0.2.99"} {
		run(t, "bridge fdb append 00:00:00:00:00:00 dev tulle.1 dst "+dst+" self permanent")
	}
	apply(t, k, want)
	if text := run(t, "bridge fdb show dev tulle.1"); strings.Contains(text, "00:00:00:00:00:00") {
		t.Errorf("rows that flood are left:\n%s", text)
	}
}
