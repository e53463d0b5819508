package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is a file or, with a slash at the end of its name, a folder of an image.
type entry struct {
	name string
	mode int64
	text []byte
}

// base is what a process expects of a system besides programs. There is no bundle
// of CAs: that of etcd is given, and another one would be out of date soon.
var base = []entry{
	{"etc/", 0o755, nil},
	{"etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n")},
	{"etc/nsswitch.conf", 0o644, []byte("hosts: files dns\n")},
	{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/none\nnobody:x:65534:65534:nobody:/:/none\n")},
	{"etc/tulle/", 0o755, nil},
	{"run/", 0o755, nil},
	{"run/tulle/", 0o755, nil},
	{"tmp/", 0o1777, nil},
	{"usr/", 0o755, nil},
	{"usr/bin/", 0o755, nil},
	{"var/", 0o755, nil},
	{"var/lib/", 0o755, nil},
	{"var/lib/tulle/", 0o755, nil},
}

// layer is all of an image in one piece: its parts change together.
func (s spec) layer(p programs) (v1.Layer, error) {
	entries := base
	for _, name := range []string{"tulle", "tullectl", "tulled"} {
		text, err := program(filepath.Join(p.dir, name), p.arch)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{"usr/bin/" + name, 0o755, text})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), ModTime: s.created, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// machines are the architectures as programs name them.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// program reads a program, and returns an error unless it runs on the
// architecture and by itself: in the image there is no library and no loader.
func program(path, arch string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s is no program: %w", path, err)
	}
	machine, ok := machines[arch]
	if !ok {
		return nil, fmt.Errorf("%s is no architecture of ours: amd64 or arm64", arch)
	}
	if f.Machine != machine {
		return nil, fmt.Errorf("%s is a program for %s, want %s", path, f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s needs a loader and libraries; build it with CGO_ENABLED=0", path)
		}
	}
	return text, nil
}

// pack writes a folder's files into an archive, by name, so that the same files give
// the same bytes.
func pack(dir, file string, at time.Time) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: at, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	return errors.Join(err, w.Close(), f.Close())
}
