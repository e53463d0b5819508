package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"tulle/internal/root"
)

// binDir is the folder for the programs under test.
var binDir string // set by TestMain

// builtBin is binDir with the programs, built once.
var builtBin = sync.OnceValues(func() (string, error) {
	dir := binDir
	for program, source := range map[string]string{"tulled": "tulle/daemon", "tulle": "tulle/cni-shim", "tullectl": "tulle/tullectl"} {
		args := append([]string{"build", "-o", filepath.Join(dir, program)}, raceFlags...)
		if text, err := exec.Command("go", append(args, source)...).CombinedOutput(); err != nil {
			return dir, fmt.Errorf("go build %s: %w\n%s", source, err, text)
		}
	}
	return dir, nil
})

func testBin(t *testing.T) string {
	t.Helper()
	root.Require(t)
	dir, err := builtBin()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ownBin is a copy of the programs that no other test runs, so that the
// processes of a test can be told from all others.
func ownBin(t *testing.T) string {
	t.Helper()
	from, to := testBin(t), t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// processesOf lists the processes of the machine, in whatever namespace, that
// run a program of the folder.
func processesOf(t *testing.T, bin string) []string {
	t.Helper()
	var programs []os.FileInfo
	entries, err := os.ReadDir(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, info)
	}
	var found []string
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range pids {
		exe, err := os.Stat(filepath.Join(dir, "exe"))
		if err != nil {
			continue // it ended, is a zombie, or belongs to the kernel
		}
		for _, p := range programs {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			if os.SameFile(exe, p) && pid != os.Getpid() {
				found = append(found, fmt.Sprintf("%d %s", pid, p.Name()))
			}
		}
	}
	return found
}

func TestMain(m *testing.M) {
	status, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func runTests(m *testing.M) (int, error) {
	before, err := machineState()
	if err != nil {
		return 1, err
	}
	if binDir, err = os.MkdirTemp("", "tulle-lab-test-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(binDir)
	status := m.Run()
	if diff := machineChange(before); diff != "" {
		return 1, fmt.Errorf("the labs changed the machine outside of them:\n%s", diff)
	}
	return status, nil
}
