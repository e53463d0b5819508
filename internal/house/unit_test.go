package house

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTemplateUnit: the unit for further networks is that of the first one, but
// for what two networks may not share.
func TestTemplateUnit(t *testing.T) {
	t.Parallel()
	unit := read(t, "dist/tulled.service")
	text, err := exec.Command("sed", "-f", filepath.Join(top, "dist/tulled@.sed"), filepath.Join(top, "dist/tulled.service")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var more, less []string
	template := strings.Split(string(text), "\n")
	for _, line := range template {
		if !strings.Contains("\n"+unit, "\n"+line+"\n") && !strings.HasPrefix(line, "#") {
			more = append(more, line)
		}
	}
	for line := range strings.SplitSeq(unit, "\n") {
		if !slices.Contains(template, line) {
			name, _, _ := strings.Cut(line, "=")
			less = append(less, name)
		}
	}
	if want := []string{"Description", "EnvironmentFile", "StateDirectory", "RuntimeDirectory"}; !slices.Equal(less, want) {
		t.Errorf("the template has not the unit's lines %q, want %q", less, want)
	}
	for _, line := range more {
		if !strings.Contains(line, "%i") {
			t.Errorf("the template's line %q is alike for all networks", line)
		}
	}
	if len(more) != len(less)+2 { // two lines of Environment
		t.Errorf("the template has these lines of its own: %q", more)
	}
}
