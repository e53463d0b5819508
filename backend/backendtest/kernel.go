// Package backendtest has a kernel that is only a map, for tests of what sits
// above the kernel.
package backendtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

// Kernel is a backend.Kernel in memory. Like the real one it refuses to add a
// row twice, to change a row that is not there and to add a row to a device that
// does not exist, and it drops a device's rows with the device. The zero Kernel
// is empty and ready to use.
type Kernel struct {
	// Refuse, if not nil, says which changes the kernel refuses and why.
	Refuse func(backend.Change) error
	// DumpErr, if not nil, is what Dump returns.
	DumpErr func() error

	mu sync.Mutex // guards all following fields

	rows    backend.State
	dumps   int
	changes []backend.Change
}

var _ backend.Kernel = (*Kernel)(nil)

// Dump implements backend.Kernel.
func (k *Kernel) Dump(_ context.Context, kinds backend.Kinds, _ backend.State, part func(backend.Kinds, backend.State)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dumps++
	if k.DumpErr != nil {
		if err := k.DumpErr(); err != nil {
			return err
		}
	}
	have := maps.Clone(k.state())
	maps.DeleteFunc(have, func(key backend.Key, _ backend.Entry) bool { return !kinds.Has(key.Kind) })
	part(kinds, have)
	return nil
}

// Apply implements backend.Kernel.
func (k *Kernel) Apply(ctx context.Context, changes []backend.Change) (made []backend.Change, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, c := range changes {
		if err := k.apply(c); err != nil {
			errs = append(errs, &backend.ChangeError{Change: c, Err: err})
			if c.Key().Kind == backend.KindLink {
				break
			}
			continue
		}
		made = append(made, c)
	}
	return made, errors.Join(append(errs, ctx.Err())...)
}

func (k *Kernel) apply(c backend.Change) error {
	if k.Refuse != nil {
		if err := k.Refuse(c); err != nil {
			return err
		}
	}
	k.changes = append(k.changes, c)
	rows, key := k.state(), c.Key()
	has := rows[key]
	switch {
	case c.Have == nil && has != nil:
		return unix.EEXIST
	case c.Have != nil && has == nil:
		return unix.ENOENT
	case c.Want == nil:
		delete(rows, key)
	}
	if key.Kind == backend.KindLink && c.Have != nil && (c.Want == nil || !c.Have.(backend.Link).Changeable(c.Want.(backend.Link))) {
		maps.DeleteFunc(rows, func(_ backend.Key, e backend.Entry) bool { return device(rows, e) == key.Name })
	}
	if c.Want == nil {
		return nil
	}
	if dev := device(rows, c.Want); dev != "" && rows[backend.Link{Name: dev}.Key()] == nil {
		return fmt.Errorf("device %s: %w", dev, unix.ENODEV)
	}
	if r, ok := c.Want.(backend.Route); ok && r.Nexthop != 0 && rows[backend.Nexthop{ID: r.Nexthop}.Key()] == nil {
		return fmt.Errorf("nexthop %d: %w", r.Nexthop, unix.EINVAL)
	}
	rows[key] = c.Want
	return nil
}

// device is the device on which a row depends, or empty.
func device(rows backend.State, e backend.Entry) string {
	switch e := e.(type) {
	case backend.Addr:
		return e.Dev
	case backend.FDB:
		return e.Dev
	case backend.Neigh:
		return e.Dev
	case backend.Nexthop:
		return e.Dev
	case backend.Route:
		if nh, ok := rows[backend.Nexthop{ID: e.Nexthop}.Key()].(backend.Nexthop); ok {
			return nh.Dev
		}
		return e.Dev
	}
	return ""
}

func (k *Kernel) state() backend.State {
	if k.rows == nil {
		k.rows = backend.State{}
	}
	return k.rows
}

// Rows is a copy of what the kernel holds.
func (k *Kernel) Rows() backend.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.state())
}

// Put sets rows behind everybody's back, as an administrator would.
func (k *Kernel) Put(entries ...backend.Entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state().Add(entries...)
}

// Remove deletes rows behind everybody's back.
func (k *Kernel) Remove(keys ...backend.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		delete(k.rows, key)
	}
}

// Counts tells how often the kernel was dumped and how many changes it made.
func (k *Kernel) Counts() (dumps, changes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dumps, len(k.changes)
}
