package main

import (
	"errors"
	"hash/fnv"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// directory holds the reservations of one network in the way of host-local: a
// file per address, named for it, whose text is the container and its interface;
// the last address given out; and the file whose locks guard it all. host-local
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
	lock int   // file; -1 until a lock is asked for: who only reads needs none
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
		return nil, fileError{&os.PathError{Op: "open", Path: path, Err: err}}
	}
	return &directory{path: path, dir: os.NewFile(uintptr(fd), path), lock: -1}, nil
}

// fileError is what went wrong with a file: the code of the specification for that.
type fileError struct{ *os.PathError }

func (d *directory) fault(op, name string, err error) error {
	return fileError{&os.PathError{Op: op, Path: d.path + "/" + name, Err: err}}
}

// close lets go of locks and of the marks of reservations in the making.
// Nothing is written through these descriptors that a late error could concern.
func (d *directory) close() {
	for _, fd := range d.open {
		_ = unix.Close(fd)
	}
	if d.lock >= 0 {
		_ = unix.Close(d.lock)
	}
	_ = d.dir.Close()
}

func (d *directory) fd() int { return int(d.dir.Fd()) }

// locked runs f while no other process reserves or releases.
func (d *directory) locked(f func() error) error {
	if err := d.openLock(); err != nil {
		return err
	}
	if err := flock(d.lock, unix.LOCK_EX); err != nil {
		return d.fault("lock", lockName, err)
	}
	defer flock(d.lock, unix.LOCK_UN)
	return f()
}

// exclude waits until no other process attaches or detaches the container in this network,
// and keeps others waiting until the directory is closed. Containers are bytes of the
// lock's file, so it leaves nothing behind and goes with the process. On the pod's
// namespace, which would do as well, any program in the pod could put a lock, and hold DEL up.
func (d *directory) exclude(containerID string) error {
	if err := d.openLock(); err != nil {
		return err
	}
	h := fnv.New64a()
	h.Write([]byte(containerID))
	one := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(h.Sum64() >> 2), Len: 1}
	for {
		err := unix.FcntlFlock(uintptr(d.lock), unix.F_OFD_SETLKW, &one)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return d.fault("lock", lockName, err)
		}
	}
}

func (d *directory) openLock() (err error) {
	if d.lock < 0 {
		d.lock, err = d.openFile(lockName, unix.O_RDWR|unix.O_CREAT)
	}
	return err
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
		return -1, d.fault("open", name, err)
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
			return "", d.fault("read", name, err)
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
		return d.fault("write", name, err)
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
		return d.fault("remove", name, err)
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
	_, err := d.dir.Seek(0, io.SeekStart)
	var names []string
	if err == nil {
		names, err = d.dir.Readdirnames(-1)
	}
	if err != nil {
		return l, d.fault("list", "", err)
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
