package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
)

func TestStatusWhenTheBridgeCannotBeMade(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	list := h.conf("1.1.0", "")
	if err := h.status(list); err != nil {
		t.Errorf("STATUS before there is a bridge: %v", err)
	}
	if err := h.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "cni0"}}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "STATUS", h.status(list), types.ErrPluginNotAvailable, "cni0 is of type ifb and not a bridge")
}

func TestStatusMakesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	if err := h.status(h.conf("1.1.0", "")); err != nil {
		t.Fatal(err)
	}
	if names := linkNames(t, h.Handle); len(names) != 1 {
		t.Errorf("links after STATUS: %v, want lo alone", names)
	}
	if got := h.reserved("tulle"); len(got) > 0 {
		t.Errorf("reserved after STATUS: %v", got)
	}
}

// A node whose runtime died is full of addresses that nobody has. An ADD takes them, but
// a runtime that hears 50 sends none.
func TestStatusOfARangeFullOfPodsThatAreGone(t *testing.T) {
	t.Parallel()
	h := newHost(t, strings.ReplaceAll(oneFamily, "60.1/24", "60.1/30"))
	list, p := h.conf("1.1.0", ""), newPod(t, "pod1")
	h.mustAdd(list, p)
	err := h.status(list)
	wantError(t, "STATUS", err, types.ErrPluginNotAvailable, "10.244.60.0/30")
	var told *types.Error
	if errors.As(err, &told) && !strings.Contains(told.Details, "1 of 1") {
		t.Errorf("details are %q, want the counts", told.Details)
	}
	if _, err := deleteLink(h.Handle, p.hostName()); err != nil {
		t.Fatal(err)
	}
	if err := h.status(list); err != nil {
		t.Errorf("STATUS when the pod is gone: %v", err)
	}
	if got := h.reserved("tulle"); len(got) != 1 {
		t.Errorf("reserved after STATUS: %v, want it to take nothing away", got)
	}
	h.mustAdd(list, newPod(t, "pod2"))
}
