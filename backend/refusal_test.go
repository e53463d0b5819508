package backend

import (
	"errors"
	"fmt"
	"testing"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	one, two := &ChangeError{Err: errors.New("no")}, &ChangeError{Err: errors.New("no")}
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing", nil, 0},
		{"something else", errors.New("the table keeps changing"), 0},
		{"one", one, 1},
		{"two among others", errors.Join(one, errors.New("x"), errors.Join(two)), 2},
		{"behind a word", fmt.Errorf("pass: %w", errors.Join(one, two)), 2},
	} {
		if got := len(Refused(tt.err)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
