package house

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"tulle/internal/lab"
)

// bare is a lab for pages and scripts that begin with nothing. Each host has
// copies of its own of the folders that these write to.
var bare = lab.Options{Nodes: 3, Bare: true, Own: []string{"/etc", "/opt"}}

// install puts on the hosts what packages bring beside programs.
func install(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, h := range l.Hosts {
		for _, packages := range [][]string{{"etcd-server"}, {"./tulle.deb"}} {
			if _, err := h.Exec(t.Context(), append([]string{"apt-get", "install"}, packages...)...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// scp copies files of a host to another one: FILE... HOST:PLACE.
func scp(l *lab.Lab, from *lab.Host, words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("scp %s: want files and a place", words)
	}
	name, place, ok := strings.Cut(words[len(words)-1], ":")
	to := l.Host(name)
	if !ok || to == nil || from == nil {
		return fmt.Errorf("scp: %s is no place on a host of the lab", words[len(words)-1])
	}
	for _, file := range words[:len(words)-1] {
		text, err := os.ReadFile(from.Path(file))
		if err != nil {
			return err
		}
		info, err := os.Stat(from.Path(file))
		if err != nil {
			return err
		}
		target := to.Path(place)
		if strings.HasSuffix(place, "/") {
			target = filepath.Join(target, path.Base(file))
		}
		if err := os.WriteFile(target, text, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
