package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// build makes programs of one line for an architecture, as small as they get.
func build(t *testing.T, arch string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tulled", "tulle", "tullectl"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	return dir
}

func args(amd64, arm64, out string) []string {
	return []string{"-name", "localhost/tulle:0.1.0", "-version", "0.1.0", "-revision", "1a2b3c", "-created", "1700000000",
		"-programs", "arm64=" + arm64, "-programs", "amd64=" + amd64, "-out", out}
}

// unpack writes the files of an archive into a folder.
func unpack(t *testing.T, archive string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	amd64, arm64 := build(t, "amd64"), build(t, "arm64")
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := run(args(amd64, arm64, out)); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again.tar")
	if err := run(args(amd64, arm64, again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text(t, out), text(t, again)) {
		t.Error("the same programs gave other bytes")
	}
	top, err := layout.ImageIndexFromPath(unpack(t, out))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(top); err != nil { // digests, sizes, media types, layers against configurations
		t.Error(err)
	}
	m, err := top.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Annotations["io.containerd.image.name"] != "localhost/tulle:0.1.0" {
		t.Fatalf("index.json = %+v, %v, want one index of that name", m, err)
	}
	index, err := top.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = index.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	var archs []string
	for _, d := range m.Manifests {
		archs = append(archs, d.Platform.String())
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		check(t, img, d.Platform.Architecture, map[string]string{"amd64": amd64, "arm64": arm64}[d.Platform.Architecture])
	}
	if got := strings.Join(archs, " "); got != "linux/amd64 linux/arm64" {
		t.Errorf("images for %s", got)
	}
}

const wantFiles = `drwxr-xr-x etc
-rw-r--r-- etc/group
-rw-r--r-- etc/nsswitch.conf
-rw-r--r-- etc/passwd
drwxr-xr-x etc/tulle
drwxr-xr-x run
drwxr-xr-x run/tulle
dtrwxrwxrwx tmp
drwxr-xr-x usr
drwxr-xr-x usr/bin
drwxr-xr-x var
drwxr-xr-x var/lib
drwxr-xr-x var/lib/tulle
-rwxr-xr-x usr/bin/tulle
-rwxr-xr-x usr/bin/tullectl
-rwxr-xr-x usr/bin/tulled
`

func check(t *testing.T, img v1.Image, arch, programs string) {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != arch || c.OS != "linux" || fmt.Sprint(c.Config.Entrypoint) != "[/usr/bin/tulled]" {
		t.Errorf("%s: configuration = %+v", arch, c)
	}
	for label, want := range map[string]string{
		"title": "tulle", "version": "0.1.0", "revision": "1a2b3c", "licenses": "Apache-2.0", "created": "2023-11-14T22:13:20Z",
	} {
		if got := c.Config.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("%s: label %s = %q, want %q", arch, label, got, want)
		}
	}
	var files strings.Builder
	r := mutate.Extract(img)
	defer r.Close()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&files, h.FileInfo().Mode(), h.Name)
		if name, ok := strings.CutPrefix(h.Name, "usr/bin/"); ok && name != "" {
			got, err := io.ReadAll(in)
			if err != nil || !bytes.Equal(got, text(t, filepath.Join(programs, name))) {
				t.Errorf("%s: %s is not the program that was given (%v)", arch, h.Name, err)
			}
		}
	}
	if files.String() != wantFiles {
		t.Errorf("%s: files:\n%s\nwant:\n%s", arch, files.String(), wantFiles)
	}
}

// What would only fail on somebody's node fails here.
func TestWrongPrograms(t *testing.T) {
	t.Parallel()
	amd64 := build(t, "amd64")
	script := t.TempDir()
	if err := os.WriteFile(filepath.Join(script, "tulle"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dynamic := t.TempDir()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dynamic, "tulle"), text(t, shell), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, amd64, arm64, want string }{
		{"another architecture's", amd64, amd64, "is a program for EM_X86_64, want EM_AARCH64"},
		{"a script", script, amd64, "is no program"},
		{"one that needs libraries", dynamic, amd64, "build it with CGO_ENABLED=0"},
		{"none", t.TempDir(), amd64, "no such file"},
	} {
		if test.amd64 == dynamic && runtime.GOARCH != "amd64" {
			continue // the shell here is of another architecture
		}
		out := filepath.Join(t.TempDir(), "image.tar")
		if err := run(args(test.amd64, test.arm64, out)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if entries, err := os.ReadDir(filepath.Dir(out)); err != nil || len(entries) > 0 {
			t.Errorf("%s: left %v, %v", test.name, entries, err)
		}
	}
}

func text(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
