package lab

import (
	"testing"

	"golang.org/x/sys/unix"
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
	for _, tt := range []struct{ name, families, underlay string }{
		{"dual stack", "46", "46"},
		{"dual stack on hosts without IPv6", "46", "4"},
		{"dual stack on hosts without IPv4", "46", "6"},
		{"IPv6 alone", "6", "6"},
		{"IPv6 pods on hosts without IPv6", "6", "4"},
		{"IPv4 pods on hosts without IPv4", "4", "6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := up(t, Options{Nodes: 2, Pods: 2, Families: families(t, tt.families), Underlay: families(t, tt.underlay)})
			was := dump(t, l.Nodes()[0])
			proof, err := l.Prove(t.Context(), func(string) {})
			t.Logf("\n%s", proof)
			if err != nil {
				t.Error(err)
			}
			if now := dump(t, l.Nodes()[0]); now != was {
				t.Errorf("the kernel after the proof:\n%s\nbefore:\n%s", now, was)
			}
			restart(t, l, unix.SIGTERM)
		})
	}
}
