package lab

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

func families(t *testing.T, text string) Families {
	t.Helper()
	s, err := ParseFamilies(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLabOfEachFamily is the proof for pods and hosts of other families than
// IPv4 alone, which TestLab is about, and a restart of each.
func TestLabOfEachFamily(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, families, underlay string
		network                  []string // more flags of tullectl network set
		overlay                  subnet.Family
	}{
		{"dual stack", "46", "46", nil, subnet.IPv4},
		{"dual stack over IPv6", "46", "46", []string{"--ipv6-underlay=true"}, subnet.IPv6},
		{"dual stack on hosts without IPv6", "46", "4", nil, subnet.IPv4},
		{"dual stack on hosts without IPv4", "46", "6", nil, subnet.IPv6},
		{"IPv6 alone", "6", "6", nil, subnet.IPv6},
		{"IPv6 pods on hosts without IPv6", "6", "4", nil, subnet.IPv4},
		{"IPv4 pods on hosts without IPv4", "4", "6", nil, subnet.IPv6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := up(t, Options{Nodes: 2, Pods: 2, Families: families(t, tt.families), Underlay: families(t, tt.underlay), Network: tt.network})
			was := dump(t, l.Nodes()[0])
			proof, err := l.Prove(t.Context(), func(string) {})
			t.Logf("\n%s", proof)
			if err != nil {
				t.Error(err)
			}
			if now := dump(t, l.Nodes()[0]); now != was {
				t.Errorf("the kernel after the proof:\n%s\nbefore:\n%s", now, was)
			}
			node := l.Nodes()[0]
			if text, local := was, "local "+node.Addrs[tt.overlay].String()+" "; !strings.Contains(text, local) {
				t.Errorf("packets between nodes do not travel over %s: no device has %q:\n%s", tt.overlay, local, text)
			}
			restart(t, l, unix.SIGTERM)
		})
	}
}
