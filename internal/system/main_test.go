package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// require skips the test unless TULLE_SYSTEM_TEST=1 asks for it: it needs some
// minutes, the first time the distribution's packages, and what dist/setup system
// installs. Asked for, it fails where anything is missing.
func require(t *testing.T) {
	t.Helper()
	if os.Getenv("TULLE_SYSTEM_TEST") != "1" {
		t.Skip("boots hosts with systemd; make test-systemd does it")
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	for _, program := range []string{"systemd-nspawn", "systemd-analyze", "mmdebstrap", "unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v; run dist/setup system", err)
		}
	}
}

// Versions of the packages under test.
const (
	older = "0.1.0"
	newer = "9.0.0"
)

var packagesOnce sync.Once

// outDir is where the packages are. TULLE_PACKAGES names a folder with packages of
// both versions that were made before.
var outDir = os.Getenv("TULLE_PACKAGES")

// deb is the package of a version, made as a release is.
func deb(t *testing.T, version string) string {
	t.Helper()
	return made(t, "tulle_"+version+"_"+runtime.GOARCH+".deb")
}

// rpm is the same for other distributions.
func rpm(t *testing.T, version string) string {
	t.Helper()
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return made(t, "tulle-"+version+"-1."+arch+".rpm")
}

// made is the path of a package; the first call makes all of them.
func made(t *testing.T, name string) string {
	t.Helper()
	packagesOnce.Do(func() {
		if os.Getenv("TULLE_PACKAGES") != "" {
			return
		}
		for _, v := range []string{older, newer} {
			cmd := exec.Command("../../dist/packages", v, runtime.GOARCH)
			cmd.Env = append(os.Environ(), "OUT="+outDir)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("dist/packages: %v\n%s", err, text)
			}
		}
	})
	path := filepath.Join(outDir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	os.Exit(withFolder(m.Run))
}

// withFolder runs the tests with a folder for packages.
func withFolder(run func() int) int {
	if outDir != "" {
		return run()
	}
	var err error
	if outDir, err = os.MkdirTemp("", "tulle-packages-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(outDir)
	return run()
}
