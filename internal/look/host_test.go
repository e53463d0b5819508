package look

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/internal/root"
)

// inNetns runs a test in a network namespace of its own, which ends with it.
func inNetns(t *testing.T) {
	t.Helper()
	root.Require(t)
	runtime.LockOSThread() // and the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// TestOpenWhileDevicesComeAndGo: a table that changes while it is read is read
// again.
func TestOpenWhileDevicesComeAndGo(t *testing.T) {
	inNetns(t)
	for i := range 100 {
		addVeth(t, fmt.Sprintf("a%d", i))
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	over, churned := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		for i := 0; err == nil; i++ {
			select {
			case <-over:
				churned <- nil
				return
			default:
			}
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("b%d", i)}, PeerName: fmt.Sprintf("c%d", i)}
			if err = netlink.LinkAdd(link); err == nil {
				err = netlink.LinkDel(link)
			}
		}
		churned <- err
	}()
	for range 20 {
		h, err := Open()
		if err != nil {
			t.Errorf("Open: %v", err)
			break
		}
		if n := len(h.Links()); n < 201 {
			t.Errorf("%d devices, want 201 or more", n)
		}
	}
	close(over)
	if err := <-churned; err != nil {
		t.Fatal(err)
	}
}

func addVeth(t *testing.T, name string) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
}
