package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"tulle/internal/operation"
)

// listen is a daemon that hears.
func (h *host) listen() *net.UnixConn {
	h.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: operation.Socket(h.subnetFile), Net: "unixgram"})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { conn.Close() })
	return conn
}

func TestDaemonIsToldOfOperations(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	conn := h.listen()
	list := h.conf("1.1.0", "")
	h.mustAdd(list, p)
	if _, err := h.add(list, p); err == nil { // refused; libcni does not take it back
		t.Error("a second ADD was not refused")
	}
	if err := h.check(list, p); err != nil {
		t.Error(err)
	}
	if err := h.status(list); err != nil {
		t.Error(err)
	}
	if err := h.del(list, p); err != nil {
		t.Error(err)
	}
	if err := h.gc(list); err != nil {
		t.Error(err)
	}
	h.setSubnet("")
	if _, err := h.add(list, p); err == nil {
		t.Error("an ADD without subnet file was not refused")
	}
	want := []operation.Operation{
		{Verb: "ADD"}, {Verb: "ADD", Code: types.ErrInternal}, {Verb: "CHECK"}, {Verb: "STATUS"}, {Verb: "DEL"}, {Verb: "GC"}, {Verb: "ADD", Code: types.ErrTryAgainLater},
	}
	var got []operation.Operation
	buf := make([]byte, operation.Most)
	for range want {
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		o, err := operation.Parse(string(buf[:n]))
		if err != nil {
			t.Fatal(err)
		}
		if o.Took <= 0 {
			t.Errorf("%s took no time", o)
		}
		o.Took = 0
		got = append(got, o)
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// An error is in the form of the specification, which has the configuration's version in
// it, and leaves nothing out: GC goes on after a fault and tells all.
func TestErrorsAreInTheFormOfTheSpecification(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	if err := os.MkdirAll(h.dataDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), h.dir()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		verb, version string
		code          uint
	}{
		{"ADD", "0.3.1", types.ErrIOFailure}, {"CHECK", "0.4.0", types.ErrInvalidNetworkConfig},
		{"DEL", "1.0.0", types.ErrIOFailure}, {"STATUS", "1.1.0", types.ErrPluginNotAvailable},
	} {
		cmd := h.verb(filepath.Join(pluginDir, "tulle"), h.conf(tt.version, ""), p, tt.verb)
		var out []byte
		if err := h.do(func() (err error) { out, err = cmd.Output(); return err }); err == nil {
			t.Errorf("%s succeeds: %s", tt.verb, out)
			continue
		}
		var got struct {
			CNIVersion string
			Code       uint
			Msg        string
		}
		if err := json.Unmarshal(out, &got); err != nil || got.CNIVersion != tt.version || got.Code != tt.code || got.Msg == "" {
			t.Errorf("%s in version %s answers %s (%v), want that version, code %d and a message", tt.verb, tt.version, out, err, tt.code)
		}
	}
	told := answered(errors.Join(errors.New("first"), coded(types.ErrIOFailure, errors.New("second")), errors.New("third")))
	wantError(t, "three errors at once", told, types.ErrIOFailure, "first", "second", "third")
}

// A daemon that hangs holds up no pod: its queue is full after a few operations.
func TestDaemonThatDoesNotListenHoldsUpNobody(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	conn := h.listen()
	for range 1000 {
		tell(operation.Socket(h.subnetFile), operation.Operation{Verb: "ADD"})
	}
	h.mustAdd(h.conf("1.1.0", ""), p)
	if err := h.del(h.conf("1.1.0", ""), p); err != nil {
		t.Error(err)
	}
	// What is queued is whole, and far less than was sent. Nobody sends any more, so what is
	// not there now does not come.
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf, heard := make([]byte, operation.Most), 0
	err = raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if err != nil {
				if !errors.Is(err, unix.EAGAIN) {
					t.Error(err)
				}
				return
			}
			heard++
			if _, err := operation.Parse(string(buf[:n])); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if heard == 0 || heard >= 1000 {
		t.Errorf("%d of 1000 were queued, want some and not all", heard)
	}
}

// What telling costs a pod's start: with a daemon, and without.
func BenchmarkTell(b *testing.B) {
	h := newHost(b, oneFamily)
	conf := h.conf("1.1.0", allWishes).Plugins[0].Bytes
	for _, heard := range []bool{false, true} {
		b.Run(map[bool]string{true: "heard", false: "not heard"}[heard], func(b *testing.B) {
			if heard {
				conn := h.listen()
				go func() {
					for buf := make([]byte, operation.Most); ; {
						if _, err := conn.Read(buf); err != nil {
							return
						}
					}
				}()
			}
			for b.Loop() {
				tell(socketOf(conf), operation.Operation{Verb: "ADD", Took: time.Millisecond})
			}
		})
	}
}
