package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// setSysctl sets a switch of the kernel, named by its path below /proc/sys, in the
// calling thread's network namespace.
func setSysctl(key, value string) error { return setSwitch(unix.AT_FDCWD, "/proc/sys/"+key, value) }

// setSwitch sets a switch, named by its path from a directory. It is read first, because
// /proc/sys may be read only where all is as it should be.
func setSwitch(dir int, path, value string) error {
	fd, err := unix.Openat(dir, path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	refused := err
	if err != nil {
		fd, err = unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		old := make([]byte, 32)
		var n int
		n, err = unix.Pread(fd, old, 0)
		if err == nil && string(old[:n]) != value+"\n" {
			if err = refused; err == nil {
				_, err = unix.Pwrite(fd, []byte(value), 0)
			}
		}
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return nil
}
