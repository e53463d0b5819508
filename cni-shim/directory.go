package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// directory holds the reservations of one network in the way of host-local: a
// file per address, named for it, whose text is the container and its interface;
// the last address given out; and the file whose lock guards it all. host-local
// of a node that is moved to or from flannel reads and writes the same files.
//
// Beside each of its own reservations tulle puts a second name for the same file,
// which begins with the host's end of the veth: so the addresses of an attachment
// are found without reading the files of all pods. To host-local these names are
// files that it does not know, and that it removes together with the reservation.
//
// One more file lists addresses that their next holders announce (mark.go).
//
// No symbolic link is followed here.
type directory struct {
	path string
	dir  *os.File
	lock int
	open []int // files of reservations that are being made
}

const (
	lockName       = "lock"
	lastNamePrefix = "last_reserved_ip."
	holderBreak    = "\r\n" // between container and interface
	indexBreak     = "_"    // between host's end and address
	marksName      = "announce"
)

// openDirectory returns the error fs.ErrNotExist where there is none.
func openDirectory(path string) (*directory, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &directory{path: path, dir: os.NewFile(uintptr(fd), path)}
	if d.lock, err = d.openFile(lockName, unix.O_RDWR|unix.O_CREAT); err != nil {
		_ = d.dir.Close()
		return nil, err
	}
	return d, nil
}

// close lets go of the lock and of the marks of reservations in the making.
// Nothing is written through these descriptors that a late error could concern.
func (d *directory) close() {
	for _, fd := range d.open {
		_ = unix.Close(fd)
	}
	_ = unix.Close(d.lock)
	_ = d.dir.Close()
}

func (d *directory) fd() int { return int(d.dir.Fd()) }

// locked runs f while no other process reserves or releases.
func (d *directory) locked(f func() error) error {
	if err := flock(d.lock, unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock reservations in %s: %w", d.path, err)
	}
	defer flock(d.lock, unix.LOCK_UN)
	return f()
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (d *directory) openFile(name string, flags int) (int, error) {
	// Without O_NONBLOCK a pipe that somebody put here would hold us up.
	fd, err := unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: d.path + "/" + name, Err: err}
	}
	return fd, nil
}

// textMost is more than any text here has: a container's ID comes in an environment
// variable, of which the kernel takes 128 KiB.
const textMost = 1 << 18

// read returns the text of a file.
func (d *directory) read(name string) (string, error) {
	fd, err := d.openFile(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 1024)
	for len(text) < textMost {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return "", &os.PathError{Op: "read", Path: d.path + "/" + name, Err: err}
		}
		if text = text[:len(text)+n]; len(text) < cap(text) {
			break
		}
		text = slices.Grow(text, len(text))
	}
	return string(text), nil
}

// write replaces the text of a file.
func (d *directory) write(name, text string) error {
	fd, err := d.openFile(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	if err = errors.Join(writeAll(fd, text), unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write", Path: d.path + "/" + name, Err: err}
	}
	return nil
}

// writeAll takes a text that was written in part for an error: the disk is full.
func writeAll(fd int, text string) error {
	n, err := unix.Write(fd, []byte(text))
	if err == nil && n < len(text) {
		return unix.ENOSPC
	}
	return err
}

// remove removes a file; one that is gone already is no error.
func (d *directory) remove(name string) error {
	if err := unix.Unlinkat(d.fd(), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: d.path + "/" + name, Err: err}
	}
	return nil
}

// listing is what the names in a directory tell.
type listing struct {
	taken map[netip.Addr]bool     // by a pod of whatever plugin
	index map[string][]netip.Addr // host's end of the veth -> addresses that it leads to
	known map[netip.Addr]bool     // addresses that the index leads to
}

// strangers reports whether another plugin's pods are here: their MACs follow from
// nothing.
func (l listing) strangers() bool {
	for addr := range l.taken {
		if !l.known[addr] {
			return true
		}
	}
	return false
}

func (d *directory) list() (listing, error) {
	l := listing{map[netip.Addr]bool{}, map[string][]netip.Addr{}, map[netip.Addr]bool{}}
	if _, err := d.dir.Seek(0, io.SeekStart); err != nil {
		return l, err
	}
	names, err := d.dir.Readdirnames(-1)
	if err != nil {
		return l, fmt.Errorf("list reservations: %w", err)
	}
	for _, name := range names {
		if a, err := netip.ParseAddr(name); err == nil {
			l.taken[a] = true
		} else if host, addr, ok := strings.Cut(name, indexBreak); ok && isHostName(host) {
			if a, err := netip.ParseAddr(addr); err == nil {
				l.index[host] = append(l.index[host], a)
				l.known[a] = true
			}
		}
	}
	return l, nil
}
