package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asTullectl makes the test's program be tullectl.
const asTullectl = "TULLECTL_OF_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asTullectl) != "" {
		main()
	}
	os.Exit(m.Run())
}

func tullectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asTullectl+"=1")
	return cmd
}

// conflist is what the packages install.
const conflist = "../dist/10-tulle.conflist"

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestCNIInstall(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	bin, conf := filepath.Join(to, "opt/cni/bin"), filepath.Join(to, "etc/cni/net.d")
	plugin := filepath.Join(from, "tulle")
	install := func(conflist string) (string, error) {
		text, err := tullectl(t.Context(), "cni", "install", "--plugin", plugin, "--bin-dir", bin, "--conflist", conflist, "--conf-dir", conf).CombinedOutput()
		return string(text), err
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	write(t, plugin, read(t, sleep), 0o600)

	if text, err := install(conflist); err != nil || strings.Count(text, "installed ") != 2 {
		t.Fatalf("install = %s, %v, want both files installed", text, err)
	}
	if text, err := install(conflist); err != nil || text != "everything is there already\n" {
		t.Errorf("install again = %s, %v", text, err)
	}
	info, err := os.Stat(filepath.Join(bin, "tulle"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("the plugin is %v, %v, want mode 0755", info, err)
	}

	// The old plugin runs while the new one is installed.
	running := exec.Command(filepath.Join(bin, "tulle"), "100")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Process.Kill(); _ = running.Wait() })
	write(t, plugin, []byte("another plugin"), 0o600)
	if text, err := install(conflist); err != nil || text != "installed "+filepath.Join(bin, "tulle")+"\n" {
		t.Errorf("install while the old one runs = %s, %v", text, err)
	}
	if got := read(t, filepath.Join(bin, "tulle")); string(got) != "another plugin" {
		t.Errorf("the plugin is %d bytes, want the new one's", len(got))
	}

	// A configuration that a runtime would pass over is not installed, nor is
	// the plugin with it.
	write(t, plugin, []byte("a third one"), 0o600)
	for _, test := range []struct{ text, want string }{
		{"", "unexpected end of JSON input"},
		{`{"cniVersion": "1.0.0", "type": "tulle"}`, "it has no name\nit has no plugins"},
		{`{"name": "tulle", "plugins": [{}]}`, "it has no cniVersion\nplugin 1 has no type"},
	} {
		bad := filepath.Join(from, "10-tulle.conflist")
		write(t, bad, []byte(test.text), 0o600)
		if text, err := install(bad); err == nil || !strings.Contains(text, test.want) {
			t.Errorf("install of %q = %s, %v, want %q", test.text, text, err, test.want)
		}
	}
	if got := read(t, filepath.Join(bin, "tulle")); string(got) != "another plugin" {
		t.Errorf("the plugin became %q", got)
	}
	if a, b := names(t, bin), names(t, conf); a != "tulle" || b != "10-tulle.conflist" {
		t.Errorf("installed %s and %s", a, b)
	}
}

// Installs are killed at all moments: there is one whole plugin at each.
func TestCNIInstallIsKilled(t *testing.T) {
	t.Parallel()
	from, bin := t.TempDir(), t.TempDir()
	const size = 8 << 20
	var contents [2][]byte
	for i := range contents {
		contents[i] = bytes.Repeat([]byte{byte('a' + i)}, size)
		write(t, filepath.Join(from, string(contents[i][:1])), contents[i], 0o600)
	}
	args := func(i int) []string {
		return []string{"cni", "install", "--plugin", filepath.Join(from, string(contents[i][:1])), "--bin-dir", bin}
	}
	begin := time.Now()
	if text, err := tullectl(t.Context(), args(0)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	whole := time.Since(begin)
	killed, left := 0, 0
	const times = 24
	for n := range times {
		ctx, cancel := context.WithTimeout(t.Context(), 2*whole*time.Duration(n)/times)
		err := tullectl(ctx, args((n+1)%2)...).Run()
		cancel()
		if err != nil {
			killed++
		}
		if names(t, bin) != "tulle" {
			left++
		}
		if got := read(t, filepath.Join(bin, "tulle")); !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Fatalf("install %d was killed and left a plugin of %d bytes, want a whole one", n, len(got))
		}
	}
	t.Logf("%d of %d were killed, %d with a file half written", killed, times, left)
	if killed == 0 {
		t.Error("no install was killed in time")
	}
	if text, err := tullectl(t.Context(), args(0)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := names(t, bin); got != "tulle" {
		t.Errorf("after a whole install there are %s, want the plugin alone", got)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}
