package backend_test

import (
	"net/netip"
	"testing"

	"tulle/backend"
)

func TestGuardModeReadsBack(t *testing.T) {
	for _, m := range []backend.GuardMode{backend.GuardOff, backend.GuardVTEP, backend.GuardStrict} {
		if got, err := backend.ParseGuardMode(m.String()); got != m || err != nil {
			t.Errorf("ParseGuardMode(%q) = %v, %v", m, got, err)
		}
	}
	if m, err := backend.ParseGuardMode("Strict"); err == nil {
		t.Errorf("ParseGuardMode(Strict) = %v, want an error that names the modes", m)
	}
}

// A stray is another row than that of its VTEP, so that the one can go and the
// other stay, and nothing is dropped that will be allowed.
func TestSourcesComeBeforeTheGuard(t *testing.T) {
	s := backend.Source{Dev: "tulle.1", VTEP: netip.MustParseAddr("192.0.2.11"), Subnets: [2]netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}}
	stray := s
	stray.Stray = 1
	guard := backend.Guard{Dev: "tulle.1", Mode: backend.GuardStrict, Port: 8472, VNI: 1, Lens: [2]int{24}}
	got := ""
	for _, c := range backend.Diff(backend.NewState(s, guard), backend.NewState(stray)) {
		got += c.String() + "\n"
	}
	want := `add source 192.0.2.11 dev tulle.1 from 10.244.2.0/24
add guard dev tulle.1 id 1 dstport 8472 on IPv4 mode strict
delete source 192.0.2.11 dev tulle.1 from 10.244.2.0/24 (stray)
`
	if got != want {
		t.Errorf("the changes are\n%swant\n%s", got, want)
	}
}
