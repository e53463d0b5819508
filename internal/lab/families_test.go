package lab

import (
	"slices"
	"testing"

	"tulle/subnet"
)

func TestFamilies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]subnet.Family{
		"4":  {subnet.IPv4},
		"6":  {subnet.IPv6},
		"46": {subnet.IPv4, subnet.IPv6},
	} {
		s, err := ParseFamilies(text)
		if err != nil || s.String() != text || !slices.Equal(s.List(), want) || s.First() != want[0] || s.Both() != (len(want) == 2) {
			t.Errorf("ParseFamilies(%q) = %s, %s, %v, want %s", text, s, s.List(), err, want)
		}
	}
	for _, text := range []string{"", "5", "64", "4 6", "IPv4"} {
		if s, err := ParseFamilies(text); err == nil {
			t.Errorf("ParseFamilies(%q) = %s, want an error", text, s)
		}
	}
	if none := (Families{}); none.String() != "4" {
		t.Errorf("the empty set is %s, want 4", none)
	}
}
