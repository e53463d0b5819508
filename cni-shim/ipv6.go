package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ipv6 is the directory of the switches that IPv6 has for each interface of one
// namespace; nowhere on a kernel without IPv6.
//
// It is looked up once for all of them. In the kernel's cache of names the
// directories of all namespaces are one chain, which grows with the pods.
type ipv6 int

const (
	ipv6Path    = "/proc/sys/net/ipv6/conf"
	nowhere     = ipv6(-1)
	noAddresses = "1" // IN6_ADDR_GEN_MODE_NONE
)

// openIPv6 opens the directory of the calling thread's namespace.
func openIPv6() (ipv6, error) {
	dir, err := unix.Open(ipv6Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nowhere, nil
	}
	if err != nil {
		return nowhere, &os.PathError{Op: "open", Path: ipv6Path, Err: err}
	}
	return ipv6(dir), nil
}

func (six ipv6) close() {
	if six != nowhere {
		_ = unix.Close(int(six)) // nothing was written through it
	}
}

// set sets a switch on an interface. What a kernel does not have is as good as off.
func (six ipv6) set(dev, key, value string) error {
	if six == nowhere {
		return nil
	}
	err := setSwitch(int(six), dev+"/"+key, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("in %s: %w", ipv6Path, err)
	}
	return nil
}

// quiet prepares an interface before it goes up: no router may tell it where
// to send packets (a pod could pose as one), and its addresses are usable at once
// instead of after a second of duplicate address detection, which cannot find
// anything where addresses are allocated.
func (six ipv6) quiet(dev string, addresses bool) error {
	err := errors.Join(six.set(dev, "accept_ra", "0"), six.set(dev, "accept_dad", "0"))
	if addresses {
		// Some runtimes switch IPv6 off in every new namespace.
		err = errors.Join(err, six.set(dev, "disable_ipv6", "0"))
	}
	return err
}

// prepare is quiet for a pod's interface. A pod without IPv6 addresses has no use for
// one of the kernel's making either: the group that comes with it is announced to
// all pods of the node, and meanwhile the kernel lets no other pod start.
func (six ipv6) prepare(dev string, addresses bool) error {
	err := six.quiet(dev, addresses)
	if !addresses {
		err = errors.Join(err, six.set(dev, "addr_gen_mode", noAddresses))
	}
	return err
}
