package reach

import "testing"

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		sample Sample
		want   Verdict
	}{
		{"all answered", Sample{Small: Answered, Full: Answered, Offloaded: Answered}, Good},
		{"a firewall there keeps quiet about closed ports", Sample{Small: Answered, Full: Answered, Offloaded: Lost, Computed: Lost}, Good},
		{"only the overlay's way is cut", Sample{Small: Lost, Direct: Answered}, Blocked},
		{"the node is down", Sample{Small: Lost, Direct: Lost}, Silent},
		{"there is no other way to ask", Sample{Small: Lost}, Silent},
		{"large packets get lost", Sample{Small: Answered, Full: Lost, Offloaded: Answered}, Hole},
		{"the device computes wrong checksums", Sample{Small: Answered, Full: Answered, Offloaded: Lost, Computed: Answered}, Checksum},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.sample.Verdict(); got != tt.want {
				t.Errorf("Verdict of %+v = %s, want %s", tt.sample, got, tt.want)
			}
		})
	}
}

func TestMeanings(t *testing.T) {
	t.Parallel()
	seen := map[string]Verdict{}
	for _, v := range Verdicts {
		if other, twice := seen[v.Meaning()]; twice {
			t.Errorf("%s and %s mean the same", v, other)
		}
		seen[v.Meaning()] = v
	}
}
