package main

import (
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
