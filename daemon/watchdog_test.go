package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"tulle/backend"
	"tulle/backend/backendtest"
)

// stuckKernel is a kernel whose Dump waits while somebody holds gate.
type stuckKernel struct {
	backend.Kernel
	entered chan struct{}
	gate    chan struct{}
}

func (k *stuckKernel) Dump(ctx context.Context, kinds backend.Kinds, want backend.State, part func(backend.Kinds, backend.State)) error {
	k.entered <- struct{}{}
	<-k.gate
	return k.Kernel.Dump(ctx, kinds, want, part)
}

// systemd hears of the daemon while its loops run, and no more as soon as one
// hangs.
func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	const limit = 90 * time.Millisecond
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "90000")
	heard := func(within time.Duration) bool {
		t.Helper()
		if err := systemd.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 1024)
		n, err := systemd.Read(text)
		return err == nil && strings.Contains(string(text[:n]), "WATCHDOG=1")
	}

	d := newDaemon(config{}, zap.NewNop())
	k := &stuckKernel{Kernel: &backendtest.Kernel{}, entered: make(chan struct{}), gate: make(chan struct{})}
	d.rec = backend.NewReconciler(k, func(backend.Pass) {})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for _, loop := range []func(context.Context) error{d.rec.Run, d.tend, d.watchdog} {
		go func() { ended <- loop(ctx) }()
	}
	const patience = 10 * time.Second
	for range 5 {
		if !heard(patience) {
			t.Fatal("no word of a daemon whose loops run")
		}
	}
	d.rec.Set(backend.State{})
	<-k.entered
	heard(limit) // what was on its way
	if heard(3 * limit) {
		t.Error("a word of a daemon whose reconciler hangs")
	}
	close(k.gate)
	if !heard(patience) {
		t.Error("no word after the reconciler goes on")
	}
	d.mu.Lock()
	heard(limit)
	heard(limit)
	if heard(3 * limit) {
		t.Error("a word of a daemon whose state is held for ever")
	}
	d.mu.Unlock()
	if !heard(patience) {
		t.Error("no word after the state is free again")
	}
	stop()
	for range 3 {
		if err := <-ended; err == nil {
			t.Error("a loop ended without an error")
		}
	}
}
