package main

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// setSysctl sets a switch of the kernel, named by its path below /proc/sys, in the
// calling thread's network namespace. It is read first, because /proc/sys may be
// read only where all is as it should be.
func setSysctl(key, value string) error {
	path := "/proc/sys/" + key
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		old := make([]byte, 32)
		var n int
		n, err = unix.Read(fd, old)
		_ = unix.Close(fd)
		if err == nil && string(old[:n]) == value+"\n" {
			return nil
		}
		if err == nil {
			fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		}
		if err == nil {
			_, err = unix.Write(fd, []byte(value))
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return nil
}

// setIPv6 sets a switch of IPv6 on an interface. A kernel without IPv6 has none,
// which is not an error.
func setIPv6(dev, key, value string) error {
	err := setSysctl("net/ipv6/conf/"+dev+"/"+key, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// quietIPv6 prepares an interface before it goes up: no router may tell it where
// to send packets (a pod could pose as one), and its addresses are usable at once
// instead of after a second of duplicate address detection, which cannot find
// anything where addresses are allocated.
func quietIPv6(dev string, addresses bool) error {
	err := errors.Join(setIPv6(dev, "accept_ra", "0"), setIPv6(dev, "accept_dad", "0"))
	if addresses {
		// Some runtimes switch IPv6 off in every new namespace.
		err = errors.Join(err, setIPv6(dev, "disable_ipv6", "0"))
	}
	return err
}
