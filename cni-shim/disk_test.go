package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// disk gives the reservations a small file system of their own.
func (h *host) disk() {
	h.Helper()
	if err := os.MkdirAll(h.dataDir, 0o755); err != nil {
		h.Fatal(err)
	}
	if err := unix.Mount("tmpfs", h.dataDir, "tmpfs", 0, "size=64k"); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		if err := unix.Unmount(h.dataDir, unix.MNT_DETACH); err != nil {
			h.Error(err)
		}
	})
}

func (h *host) fill() {
	h.Helper()
	// The last write is cut short.
	if err := os.WriteFile(filepath.Join(h.dataDir, "fill"), make([]byte, 1<<17), 0o600); err == nil {
		h.Fatal("the disk takes more than it has")
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	h, p, flannels := newHost(t, oneFamily), newPod(t, "pod1"), newPod(t, "flannels")
	list := h.conf("1.1.0", "")
	h.disk()
	h.hostLocal("10.244.60.9", "flannels\r\neth0", time.Hour)
	h.mustAdd(list, p)
	h.fill()
	wantError(t, "STATUS", h.status(list), types.ErrPluginNotAvailable, h.dataDir, "full")
	_, err := h.add(list, newPod(t, "pod2"))
	wantError(t, "ADD", err, types.ErrIOFailure, h.dataDir, "no space left on device")
	if got := h.reserved("tulle"); len(got) != 2 {
		t.Errorf("reserved after the ADD that failed: %v, want those of the two pods", got)
	}
	// Pods go all the same, whoever attached them.
	for _, pod := range []*testPod{flannels, p} {
		if err := h.del(list, pod); err != nil {
			t.Errorf("DEL of %s: %v", pod.id, err)
		}
	}
	h.wantNothing("DEL on a full disk")
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", allWishes)
	h.disk()
	h.mustAdd(list, p)
	remount := func(flags uintptr) {
		if err := unix.Mount("", h.dataDir, "", unix.MS_REMOUNT|flags, "size=64k"); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	if err := h.check(list, p); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	wantError(t, "STATUS", h.status(list), types.ErrPluginNotAvailable, h.dataDir, "read-only")
	_, err := h.add(list, newPod(t, "pod2"))
	wantError(t, "ADD", err, types.ErrIOFailure, h.dataDir, "read-only file system")
	// The address cannot be freed; all else goes.
	wantError(t, "DEL", h.del(list, p), types.ErrIOFailure, h.dataDir, "read-only file system")
	if got, want := h.traces(), (traces{}); got != want {
		t.Errorf("after DEL: %+v, want nothing", got)
	}
	if got := h.ports(); len(got) > 0 {
		t.Errorf("ports of the bridge after DEL: %v, want none", got)
	}
	remount(0)
	if err := h.del(list, p); err != nil {
		t.Error(err)
	}
	h.wantNothing("DEL on a disk that can be written again")
}
