package operation

import (
	"testing"
	"time"
)

func TestParseIsTheOtherWayRound(t *testing.T) {
	t.Parallel()
	for _, verb := range Verbs {
		for _, code := range []uint{0, 11, 999} {
			want := Operation{verb, code, 7123 * time.Microsecond}
			if got, err := Parse(want.String()); err != nil || got != want {
				t.Errorf("Parse(%q) = %v, %v", want, got, err)
			}
			if n := len(want.String()); n >= Most {
				t.Errorf("%q has %d bytes, want less than %d", want, n, Most)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "1", "1 ADD 0", "2 ADD 0 5", "1 VERSION 0 5", "1 add 0 5", "1 ADD -1 5", "1 ADD 70000 5", "1 ADD 0 x", "1 ADD 0 -5",
		"1 ADD 0 5 ", "1 ADD 0 5\n", "1 ADD 00 5", "1 ADD 0 99999999999999", "1  ADD 0 5",
	} {
		if o, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", text, o)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1 ADD 0 7123")
	f.Add("1 DEL 999 1")
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := Parse(text); err == nil && (o.String() != text || o.Took < 0) {
			t.Errorf("Parse(%q) = %+v", text, o)
		}
	})
}
