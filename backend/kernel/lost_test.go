package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// runMany runs many commands of ip(8), each made of a number, in one process.
func runMany(t *testing.T, format string, from, to int) {
	t.Helper()
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, format+"\n", i)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "ip -batch "+file)
}

// More happens than there is room for while nobody listens (ENOBUFS): that is
// told, so that everything is looked at, and what comes later is heard.
func TestChangesAreLost(t *testing.T) {
	t.Parallel()
	h := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	heard, goOn, lost := make(chan struct{}, 1<<16), make(chan struct{}), make(chan struct{}, 1<<16)
	var first sync.Once
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			t.Error(err)
			return
		}
		const small = 16 << 10
		err := hear(ctx, small, unix.NETLINK_ROUTE, []uint{unix.RTNLGRP_IPV4_ROUTE}, func() {}, func() { lost <- struct{}{} }, func(syscall.NetlinkMessage) {
			heard <- struct{}{}
			first.Do(func() { <-goOn })
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("hear = %v, want it to go on until it is ended", err)
		}
	}()
	defer func() { cancel(); <-done }()
	wait := func(what string, c chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatalf("did not happen: %s", what)
		}
	}

	for i := 0; len(heard) == 0; i++ { // until it has subscribed
		run(t, fmt.Sprintf("ip route replace blackhole 198.18.0.1 metric %d", i+1))
	}
	runMany(t, "route add blackhole 198.19.0.0/16 metric %d", 1, 2000)
	close(goOn)
	wait("the loss is told", lost)
	for len(heard) > 0 {
		<-heard
	}
	for end := time.Now().Add(20 * time.Second); len(heard) == 0 && time.Now().Before(end); {
		run(t, "ip route replace blackhole 198.18.0.2")
		run(t, "ip route del blackhole 198.18.0.2")
	}
	wait("a later change is heard", heard)
}

// The table changes while it is read, so rows may be missing from what was read:
// it is read again from the beginning, and what never comes whole is an error
// and no table.
func TestDumpInterrupted(t *testing.T) {
	t.Parallel()
	fresh(t)
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	const many = 4000 // pages of the kernel
	runMany(t, "nexthop add id %d blackhole", 1, many+1)
	for _, test := range []struct {
		name       string
		interrupts int // tries in which the table changes
		tries      int
		want       error
	}{
		{"quiet", 0, 1, nil},
		{"changes once", 1, 2, nil},
		{"keeps changing", dumpTries + 1, dumpTries, errInterrupted},
	} {
		tries, rows := 0, 0
		err := c.dump(unix.RTM_GETNEXTHOP, &nhmsg{}, func() { tries, rows = tries+1, 0 }, func(syscall.NetlinkMessage) error {
			if rows++; rows == 1 && tries <= test.interrupts {
				run(t, fmt.Sprintf("ip nexthop add id %d blackhole", many+100))
				run(t, fmt.Sprintf("ip nexthop del id %d", many+100))
			}
			return nil
		})
		if !errors.Is(err, test.want) || tries != test.tries {
			t.Errorf("%s: dump = %v after %d tries, want %v after %d", test.name, err, tries, test.want, test.tries)
		}
		if err == nil && rows != many {
			t.Errorf("%s: %d rows, want %d", test.name, rows, many)
		}
	}
}
