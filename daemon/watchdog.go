package main

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// watchdog tells systemd that the daemon lives, as often as systemd wants to hear
// of it: not by a clock, but each time that the loops which keep the kernel and
// this host right have answered, and that whoever holds the state has let go of
// it. systemd ends a daemon that does not tell, with a list of what each
// goroutine waits for in the journal, and starts another.
//
// Those that wait for etcd are not asked: that etcd is silent is no fault of this
// process, and is told elsewhere.
func (d *daemon) watchdog(ctx context.Context) error {
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read systemd's wish for a watchdog: %w", err)
	}
	if limit == 0 {
		return nil // nobody listens
	}
	const times = 3 // within the limit, so that a slow answer is no fault
	every := time.NewTicker(limit / times)
	defer every.Stop()
	for {
		if err := d.alive(ctx); err != nil {
			return err
		}
		notify(sd.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		}
	}
}

// alive returns when all loops have answered, or with the error of ctx.
func (d *daemon) alive(ctx context.Context) error {
	d.mu.Lock()
	rec := d.rec
	d.mu.Unlock()
	if rec == nil {
		return ctx.Err() // there are no loops before begin
	}
	if err := rec.Alive(ctx); err != nil {
		return err
	}
	select {
	case d.ask <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
