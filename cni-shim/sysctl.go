package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// setIPv6 sets a switch of IPv6 on an interface of the calling thread's network
// namespace. A kernel without IPv6 has none, which is not an error.
func setIPv6(dev, key, value string) error {
	path := filepath.Join("/proc/sys/net/ipv6/conf", dev, key)
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(old) == value+"\n" {
		return nil
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set net.ipv6.conf.%s.%s to %s: %w", dev, key, value, err)
	}
	_, err = w.WriteString(value)
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("set net.ipv6.conf.%s.%s to %s: %w", dev, key, value, err)
	}
	return nil
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
