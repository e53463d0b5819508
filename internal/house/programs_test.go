package house

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// binDir is the folder of the programs under test, which bin builds.
var binDir string

// programs are ours, and etcd's as the documentation uses them: of the version
// that we are tested with, and the same on every machine.
var programs = []struct{ name, source, module string }{
	{"tulled", "tulle/daemon", "."},
	{"tulle", "tulle/cni-shim", "."},
	{"tullectl", "tulle/tullectl", "."},
	{"etcd", "go.etcd.io/etcd/server/v3", "."},
	{"etcdctl", "go.etcd.io/etcd/etcdctl/v3", "dist/tools"},
	{"systemctl", "./testdata/systemctl", "internal/house"},
}

var build = sync.OnceValue(func() error {
	for _, p := range programs {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(binDir, p.name), p.source)
		cmd.Dir = filepath.Join(top, p.module)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", p.source, err, text)
		}
	}
	text, err := os.ReadFile("testdata/apt-get")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(binDir, "apt-get"), text, 0o755)
})

// bin returns the folder with all programs, built once.
func bin(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return binDir
}

// run runs one of the programs and returns what it printed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	text, err := exec.Command(filepath.Join(bin(t), program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, args, err, text)
	}
	return string(text)
}

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "tulle-house-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(binDir)
	os.Exit(status)
}
