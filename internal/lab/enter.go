package lab

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// The namespaces of a host, in an order in which they can be joined: the last
// ones are found by path, so all are opened before the first is joined.
const (
	nsPID  = "pid"
	nsUTS  = "uts"
	nsIPC  = "ipc"
	nsMnt  = "mnt"
	nsNet  = "net"
	nsProc = "/proc/%d/ns/%s"
)

var hostNamespaces = []string{nsPID, nsUTS, nsIPC, nsMnt, nsNet}

var errLeft = errors.New("the function left its goroutine")

// inside runs f on a thread that has joined the namespaces at the paths. The
// thread is not used for anything else afterwards: the runtime ends it together
// with the goroutine, because a thread cannot be brought back for certain.
func inside(paths []string, f func() error) error {
	done := make(chan error, 1) // the goroutine sends once
	go func() {
		err := errLeft
		defer func() { done <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread never ends, and its namespaces are those that
			// /proc/PID/ns shows. While this goroutine holds it, the next one
			// gets another.
			defer runtime.UnlockOSThread()
			err = inside(paths, f)
			return
		}
		if err = join(paths); err == nil {
			err = errLeft
			err = f()
		}
	}()
	return <-done
}

func join(paths []string) error {
	fds := make([]int, 0, len(paths))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", path, err)
		}
		fds = append(fds, fd)
	}
	// A thread that shares its root and working directory with others may not
	// join a mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare root directory: %w", err)
	}
	for i, fd := range fds {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("join namespace %s: %w", paths[i], err)
		}
	}
	return nil
}
