package lab

import (
	"os"
	"testing"
)

// What a host writes in a folder of its own stays with it, and what the machine
// has there is seen by all.
func TestOwnFolders(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Bare: true, Own: []string{"/etc"}})
	one, two := l.Nodes()[0], l.Nodes()[1]
	const file = "/etc/tulle-own-test"
	if _, err := one.Exec(t.Context(), "sh", "-ec", "echo own > "+file+"; echo more >> /etc/hosts; grep -q . /etc/passwd"); err != nil {
		t.Fatal(err)
	}
	if text, err := one.Exec(t.Context(), "cat", file); err != nil || text != "own\n" {
		t.Errorf("%s reads %q, %v, want what it wrote", one.Name, text, err)
	}
	if _, err := two.Exec(t.Context(), "sh", "-c", "! test -e "+file+" && ! grep -qx more /etc/hosts"); err != nil {
		t.Errorf("%s sees what %s wrote: %v", two.Name, one.Name, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Errorf("the machine has %s", file)
	}
	for _, h := range l.Hosts {
		if processes, err := h.Processes(t.Context()); err != nil || h.Role != RoleOutside && len(processes) > 0 {
			t.Errorf("%s of a bare lab runs %v, %v", h.Name, processes, err)
		}
	}
}
