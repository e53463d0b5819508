package lab

import (
	"os"
	"strings"
	"testing"

	"tulle/subnet"
)

// Without the subnet file no pod starts, so it is put back when somebody removes
// or alters it.
func TestSubnetFileIsPutBack(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	want, err := node.Subnet()
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(path string) error{
		"removed": os.Remove,
		"altered": func(path string) error {
			return os.WriteFile(path, []byte(strings.Replace(want.String(), "1450", "9000", 1)), 0o644)
		},
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			log, path := node.journal(t), node.Path(subnetFile)
			if err := do(path); err != nil {
				t.Fatal(err)
			}
			heals(t, func() error {
				if got, err := subnet.ReadFile(path); err != nil || got != want {
					return errNot("the subnet file is back")
				}
				return nil
			})
			const told = "the subnet file was gone"
			heals(t, log.tells(t, told)) // when it is there
			log.wantOnce(t, told)
		})
	}
}
