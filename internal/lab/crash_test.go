package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// labName is a name that no other test has.
func labName(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "t-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	return filepath.Base(dir)
}

// wantNothing waits for all processes of the folder to be gone, and looks for
// mounts of the lab.
func wantNothing(t *testing.T, bin, name string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if left = processesOf(t, bin); len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if len(left) > 0 {
		t.Errorf("processes of lab %s still run: %s", name, left)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), name) {
		t.Errorf("lab %s left a mount:\n%s", name, mounts)
	}
}

func waitDead(t *testing.T, h *Host) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); h.Alive(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			t.Fatalf("host %s still lives", h.Name)
		}
	}
}

func TestSignalWhileComingUp(t *testing.T) {
	t.Parallel()
	testBin(t)
	for _, tt := range []struct {
		name   string
		signal unix.Signal
		at     string // begin of the progress line at which it comes
		status int    // -1: killed
		left   bool   // the lab's directory
	}{
		{"Ctrl-C while hosts start", unix.SIGINT, "hosts:", 130, false},
		{"Ctrl-C while daemons start", unix.SIGINT, "tulled:", 130, false},
		{"Ctrl-C while the proof runs", unix.SIGINT, "IPv4: 100 MB", 130, false},
		{"killed while hosts start", unix.SIGKILL, "underlay:", -1, true},
		{"killed while daemons start", unix.SIGKILL, "tulled:", -1, true},
		{"killed while pods are attached", unix.SIGKILL, "pods:", -1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bin, name := ownBin(t), labName(t)
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "tullectl"), "lab", "run", "--name", name, "--nodes", "2")
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			signalled := false
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				text.WriteString(lines.Text() + "\n")
				if !signalled && strings.Contains(lines.Text(), "s  "+tt.at) {
					signalled = true
					if err := cmd.Process.Signal(tt.signal); err != nil {
						t.Error(err)
					}
				}
			}
			_ = cmd.Wait() // its status is looked at below
			if got := cmd.ProcessState.ExitCode(); !signalled || got != tt.status {
				t.Errorf("exit status %d after a signal at %q (seen: %t), want %d:\n%s", got, tt.at, signalled, tt.status, text.String())
			}
			wantNothing(t, bin, name)

			l, err := Load(name)
			if left := err == nil; left != tt.left {
				t.Fatalf("Load(%s) = %v, want something left: %t", name, err, tt.left)
			}
			if tt.left {
				for _, h := range l.Hosts {
					waitDead(t, h) // the kernel takes a moment to end a pid 1 after all others
				}
				if ended, err := l.Down(t.Context()); ended != 0 || err != nil {
					t.Errorf("Down of a dead lab = %d hosts, %v, want 0 hosts", ended, err)
				}
			}
			if _, err := Load(name); !errors.Is(err, ErrNone) {
				t.Errorf("Load after Down = %v, want %v", err, ErrNone)
			}
		})
	}
}

// TestDetachedLab tries what a person types: up, a second up, status, exec, and
// down after something broke it.
func TestDetachedLab(t *testing.T) {
	t.Parallel()
	bin, name := ownBin(t), labName(t)
	tullectl := func(command string, args ...string) (string, int) {
		args = append([]string{"lab", command, "--name", name}, args...)
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "tullectl"), args...)
		text, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(text), cmd.ProcessState.ExitCode()
	}
	want := func(wantText string, wantStatus int, command string, args ...string) {
		t.Helper()
		if text, status := tullectl(command, args...); status != wantStatus || !strings.Contains(text, wantText) {
			t.Errorf("tullectl lab %s %s: status %d, want %d; text, which should hold %q:\n%s", command, args, status, wantStatus, wantText, text)
		}
	}
	t.Cleanup(func() {
		if l, err := Load(name); err == nil {
			_, _ = l.Down(context.Background())
		}
	})

	want("no such lab: "+name, 1, "status")
	want("nothing to do", 0, "down")
	want("tullectl lab exec --name "+name+" node1 -- ip route", 0, "up", "--nodes", "2", "--pods", "1")
	want("lab "+name+" exists", 1, "up", "--nodes", "1", "--pods", "0")
	want("tulled is ready", 0, "status")
	want("node1\n", 0, "exec", "node1", "--", "hostname")
	want("", 7, "exec", "pod2-1", "--", "sh", "-c", "exit 7")
	want("", 137, "exec", "pod2-1", "--", "sh", "-c", "kill -9 $$")
	want("no such program", 127, "exec", "node1", "--", "no-such-program")
	want(`no host or pod "node9"; it has [underlay node1 node2 outside pod1-1 pod2-1]`, 1, "exec", "node9", "--", "true")

	l, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	want(`"name":"pod2-1"`, 0, "exec", "pod1-1", "--", "tullectl", "lab", "get", serveURL(l.Pods[1].Addr()))

	// A shell that has no job control complains, and ends with another status.
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	shell := exec.CommandContext(ctx, filepath.Join(bin, "tullectl"), "lab", "exec", "--name", name, "pod1-1", "--", "sh", "-i")
	text := onTerminal(t, shell, [2]string{"# ", "hostname\n"}, [2]string{"node1", "exit 3\n"})
	if status := shell.ProcessState.ExitCode(); status != 3 {
		t.Errorf("an interactive shell in pod1-1 ended with status %d, want 3:\n%s", status, text)
	}

	want("needs 2 pods or more on each node", 1, "prove")

	text, _ = tullectl("status", "--json")
	var r Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("status --json: %v\n%s", err, text)
	}
	if len(r.Hosts) != 4 || len(r.Pods) != 2 || !slices.Equal(r.Pods[1].Addrs, valid(l.Pods[1].Addrs)) {
		t.Errorf("status --json: %d hosts and %d pods, want 4 and 2:\n%s", len(r.Hosts), len(r.Pods), text)
	}

	if err := unix.Kill(l.Host("node2").Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitDead(t, l.Host("node2"))
	want("gone", 0, "status")
	want("is down: 3 of 4 hosts were running", 0, "down")
	wantNothing(t, bin, name)
	want("nothing to do", 0, "down")
}
