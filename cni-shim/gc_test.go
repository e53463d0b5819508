package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

// gc calls the plugin alone: libcni would first DEL what it remembers.
func (h *host) gc(list *libcni.NetworkConfigList, valid ...*testPod) error {
	if err := os.RemoveAll(filepath.Join(filepath.Dir(h.dataDir), "cache")); err != nil {
		return err
	}
	args := &libcni.GCArgs{}
	for _, p := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: p.id, IfName: p.ifName})
	}
	return h.do(func() error { return h.cni.GCNetworkList(h.Context(), list, args) })
}

func TestGCFreesWhatTheRuntimeForgot(t *testing.T) {
	t.Parallel()
	h := newHost(t, twoFamilies)
	list := h.conf("1.1.0", "")
	keep, stale, other := newPod(t, "keep"), newPod(t, "stale"), newPod(t, "keep")
	other.ifName = "eth1" // of the container that is kept, but not in the list
	for _, p := range []*testPod{keep, stale, other} {
		h.mustAdd(list, p)
	}
	if err := h.gc(list, keep); err != nil {
		t.Fatal(err)
	}
	if got, want := h.reserved("tulle"), []string{"10.244.60.2", "fd42:0:0:3::2"}; !slices.Equal(got, want) {
		t.Errorf("reserved after GC: %v, want %v", got, want)
	}
	if got, want := h.ports(), []string{keep.hostName()}; !slices.Equal(got, want) {
		t.Errorf("ports after GC: %v, want %v", got, want)
	}
	echo(t, h.ns, keep.ns, addrOf("10.244.60.2"))
	if err := h.gc(list); err != nil {
		t.Fatal(err)
	}
	h.wantNothing("GC with no valid attachment")
}

func TestGCLeavesOtherNetworksAndStrangers(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	h.mustAdd(h.network("other", "1.1.0", ""), newPod(t, "pod1"))
	before := linkNames(t, h.Handle)
	if err := h.gc(h.conf("1.1.0", "")); err != nil {
		t.Fatal(err)
	}
	if after := linkNames(t, h.Handle); !slices.Equal(before, after) {
		t.Errorf("links before GC %v, after %v", before, after)
	}
	if got := h.reserved("other"); len(got) != 1 {
		t.Errorf("reserved in the other network: %v, want one address", got)
	}
}

func TestGCFindsVethsWhoseReservationsAreLost(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	list := h.conf("1.1.0", "")
	h.mustAdd(list, newPod(t, "pod1"))
	if err := os.RemoveAll(h.dataDir); err != nil {
		t.Fatal(err)
	}
	if err := h.gc(list); err != nil {
		t.Fatal(err)
	}
	h.wantNothing("GC")
}

func TestGCFreesReservationsWithoutVeth(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, p)
	if _, err := deleteLink(h.Handle, p.hostName()); err != nil {
		t.Fatal(err)
	}
	if err := h.gc(list); err != nil {
		t.Fatal(err)
	}
	h.wantNothing("GC")
}

func TestGCFreesReservationsThatNameNobody(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, p)
	dir := filepath.Join(h.dataDir, "tulle")
	if err := os.WriteFile(filepath.Join(dir, "10.244.60.9"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.gc(list, p); err != nil {
		t.Fatal(err)
	}
	if got := h.reserved("tulle"); len(got) != 1 || got[0] != "10.244.60.2" {
		t.Errorf("reserved after GC: %v, want 10.244.60.2", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		t.Errorf("the lock, an empty file too, is gone: %v", err)
	}
}

// The list has two names, because the first one of the specification was a mistake. What is
// in either of them stays.
func TestGCKeepsWhatIsInEitherList(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	list := h.conf("1.1.0", "")
	one, two := newPod(t, "pod1"), newPod(t, "pod2")
	h.mustAdd(list, one)
	h.mustAdd(list, two)
	of := func(p *testPod) []map[string]string {
		return []map[string]string{{"containerID": p.id, "ifname": p.ifName}}
	}
	null := json.RawMessage("null")
	for _, tt := range []struct {
		valid, attachments any
		left               int
	}{{of(one), of(two), 2}, {null, of(one), 1}, {[]int{}, null, 0}} {
		changed := withField(t, withField(t, list, "cni.dev/valid-attachments", tt.valid), "cni.dev/attachments", tt.attachments)
		if err := h.refusal(changed, one, "GC"); err != nil {
			t.Fatal(err)
		}
		if got := h.ports(); len(got) != tt.left {
			t.Errorf("ports after GC that keeps %v and %v: %v, want %d", tt.valid, tt.attachments, got, tt.left)
		}
	}
	h.wantNothing("GC")
}

func TestGCWithoutAListOfAttachmentsFreesNothing(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, p)
	if err := os.RemoveAll(filepath.Join(filepath.Dir(h.dataDir), "cache")); err != nil {
		t.Fatal(err)
	}
	err := h.do(func() error { return h.cni.GCNetworkList(t.Context(), list, nil) })
	if err == nil {
		t.Error("GC without a list succeeded, want an error")
	}
	if got := h.ports(); len(got) != 1 {
		t.Errorf("ports after the refused GC: %v, want one", got)
	}
}
