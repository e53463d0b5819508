package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// reservation is one file of the directory.
type reservation struct {
	addr netip.Addr
	// holder has no IfName where an old version of host-local wrote the file, and
	// is zero where somebody died before the name was written.
	holder attachment
}

func (a attachment) text() string { return a.ContainerID + holderBreak + a.IfName }

func (a attachment) indexName(addr netip.Addr) string {
	return a.hostName() + indexBreak + addr.String()
}

// heldBy reports whether the reservation is the attachment's.
func (r reservation) heldBy(a attachment) bool {
	return r.holder == a || r.holder == attachment{ContainerID: a.ContainerID} && a.ContainerID != ""
}

// load reads one reservation. What is no plain file is nobody's reservation,
// though its name keeps the address from being given out.
func (d *directory) load(addr netip.Addr) (reservation, error) {
	text, err := d.read(addr.String())
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, fs.ErrNotExist):
		return reservation{addr: addr}, nil
	case err != nil:
		return reservation{}, fmt.Errorf("read reservation: %w", err)
	}
	id, ifName, _ := strings.Cut(strings.TrimSpace(text), holderBreak)
	return reservation{addr, attachment{id, ifName}}, nil
}

// all are the reservations in the directory.
func (d *directory) all() ([]reservation, error) {
	l, err := d.list()
	if err != nil {
		return nil, err
	}
	var all []reservation
	for addr := range l.taken {
		r, err := d.load(addr)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// of are the reservations of an attachment. Only files that the index does not
// tell, which are those of host-local, are read to find them.
func (d *directory) of(a attachment, l listing) ([]reservation, error) {
	addrs := l.index[a.hostName()]
	for addr := range l.taken {
		if !l.known[addr] {
			addrs = append(addrs, addr)
		}
	}
	var held []reservation
	for _, addr := range addrs {
		if !l.taken[addr] {
			continue
		}
		r, err := d.load(addr)
		if err != nil {
			return nil, err
		}
		if r.heldBy(a) {
			held = append(held, r)
		}
	}
	return held, nil
}

// take reserves an address, and reports false when it is taken. The reservation
// appears in one step and with its text: a crash leaves the whole or, at worst, a
// second name that leads to nothing. Until the directory is closed the file is
// locked, which tells others that the holder is being attached right now.
func (d *directory) take(a attachment, addr netip.Addr, ownMAC bool) (bool, error) {
	if ownMAC {
		if err := d.mark(addr); err != nil {
			return false, err
		}
	}
	index := a.indexName(addr)
	if err := d.remove(index); err != nil {
		return false, err
	}
	fd, err := d.openFile(index, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return false, fmt.Errorf("reserve %s: %w", addr, err)
	}
	d.open = append(d.open, fd)
	if err = errors.Join(writeAll(fd, a.text()), flock(fd, unix.LOCK_EX)); err != nil {
		err = d.fault("write", index, err)
	}
	step("index")
	if err == nil {
		if err = unix.Linkat(d.fd(), index, d.fd(), addr.String(), 0); err != nil {
			err = d.fault("link", addr.String(), err)
		}
	}
	if err == nil {
		return true, nil
	}
	undo := d.remove(index)
	if errors.Is(err, unix.EEXIST) {
		return false, undo
	}
	return false, errors.Join(fmt.Errorf("reserve %s: %w", addr, err), undo)
}

// release removes the reservation and its second name.
func (d *directory) release(r reservation) error {
	if err := d.remove(r.addr.String()); err != nil {
		return fmt.Errorf("release address: %w", err)
	}
	step("release")
	if err := d.remove(r.holder.indexName(r.addr)); err != nil {
		return fmt.Errorf("release address: %w", err)
	}
	return nil
}

// inTheMaking reports whether a process that lives has just made the reservation.
func (d *directory) inTheMaking(addr netip.Addr) bool {
	fd, err := d.openFile(addr.String(), unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil
}
