package lab

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/internal/root"
)

// TestInsideSparesTheProcess: what a thread joins must not be seen below
// /proc/PID, where others look for the namespaces of the process.
func TestInsideSparesTheProcess(t *testing.T) {
	root.Require(t)
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				err := inside(nil, func() error {
					if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
						return err
					}
					now, err := os.Readlink(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
					if err == nil && now == before {
						err = errors.New("the thread kept the namespace of the process")
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != before {
		t.Errorf("the process is in %s (%v), want %s", now, err, before)
	}
}

func TestInsideReturns(t *testing.T) {
	t.Parallel()
	fault := errors.New("fault")
	if err := inside(nil, func() error { return fault }); !errors.Is(err, fault) {
		t.Errorf("inside = %v, want %v", err, fault)
	}
	if err := inside([]string{"/no/such/namespace"}, func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("inside a namespace that is not there = %v, want %v", err, os.ErrNotExist)
	}
}
