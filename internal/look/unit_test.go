package look

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUnasked(t *testing.T) {
	dir := t.TempDir()
	group, wants := unitGroup, unitWants
	t.Cleanup(func() { unitGroup, unitWants = group, wants })
	unitGroup, unitWants = filepath.Join(dir, "group"), []string{filepath.Join(dir, "*.wants", "tulled.service")}
	if Unasked() {
		t.Error("systemd does not run it, and it is said to")
	}
	if err := os.Mkdir(unitGroup, 0o755); err != nil {
		t.Fatal(err)
	}
	if !Unasked() {
		t.Error("systemd runs it and nothing wants it, and that is not seen")
	}
	if err := os.MkdirAll(filepath.Join(dir, "multi-user.target.wants", "tulled.service"), 0o755); err != nil {
		t.Fatal(err)
	}
	if Unasked() {
		t.Error("it is wanted at boot, and said not to be")
	}
}
