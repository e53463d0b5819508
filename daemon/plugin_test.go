package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"tulle/internal/operation"
)

// counted is how many operations of the verb and code were counted so far.
func (d *daemon) counted(t *testing.T, verb, code string) float64 {
	t.Helper()
	families, err := d.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "tulle_cni_operations_total" {
				continue
			}
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["verb"] == verb && labels["code"] == code {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestOperationsOfThePluginAreCounted(t *testing.T) {
	t.Parallel()
	c := config{SubnetFile: filepath.Join(t.TempDir(), "tulle", "subnet.env")}
	path := operation.Socket(c.SubnetFile)
	// What a daemon that was killed left.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	old, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	d := newDaemon(c, zaptest.NewLogger(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.hearPlugin(ctx) }()

	// send sends until it was counted: the socket may not be there yet.
	send := func(verb, code string, junk ...string) {
		t.Helper()
		for before := d.counted(t, verb, code); d.counted(t, verb, code) == before; time.Sleep(5 * time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("%s with code %s is not counted", verb, code)
			}
			conn, err := net.Dial("unixgram", path)
			if err != nil {
				continue
			}
			for _, text := range append(junk, strings.Join([]string{"1", verb, code, "7000"}, " ")) {
				_, _ = conn.Write([]byte(text))
			}
			_ = conn.Close()
		}
	}
	send("ADD", "0")
	send("DEL", "11", "", "junk", "1 ADD 0", strings.Repeat("x", 100_000), strings.Repeat("1 ADD 0 5", 50), "1 \x00 0 1")
	if got := d.counted(t, "\x00", "0"); got != 0 {
		t.Errorf("junk was counted")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v (%v), want 0600", info.Mode(), err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	send("GC", "5")

	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("hearPlugin = %v, want that it was canceled", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

// Whoever put something else in the socket's place keeps it.
func TestNoSocketInAForeignFilesPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "subnet.env.sock")
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if conn, err := listenPlugin(path); err == nil {
		conn.Close()
		t.Error("a socket was made in place of a file")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "theirs" {
		t.Errorf("the file says %q (%v)", text, err)
	}
}
