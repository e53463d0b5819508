package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"tulle/internal/lab"
)

// measureStarts starts the daemons of n nodes at once, none of which has a
// lease, and waits until each node has the entries of all others.
func measureStarts(ctx context.Context, bin string, n int) error {
	l, err := lab.Up(ctx, lab.Options{Nodes: n, Bin: bin})
	if err != nil {
		return err
	}
	defer l.Down(context.WithoutCancel(ctx))
	for _, h := range l.Nodes() {
		if _, err := h.StopDaemon(ctx, syscall.SIGTERM); err != nil {
			return err
		}
		if _, err := h.Exec(ctx, "sh", "-c", "ip link delete tulle.1; rm -r /var/lib/tulle/* /run/tulle"); err != nil {
			return err
		}
	}
	if _, err := l.Host("underlay").Exec(ctx, "tullectl", "network", "get"); err != nil {
		return err
	}
	store, err := newLeases(l)
	if err != nil {
		return err
	}
	defer store.close()
	if err := store.clear(ctx); err != nil {
		return err
	}
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for _, h := range l.Nodes() {
		if err := h.StartDaemon(gctx); err != nil {
			return err
		}
	}
	started := time.Since(start)
	for _, h := range l.Nodes() {
		g.Go(func() error { return h.WaitReady(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	ready := time.Since(start)
	if err := l.WaitPeers(ctx); err != nil {
		return err
	}
	fmt.Println()
	row(fmt.Sprintf("%d nodes started at once: all ready", n), "%d ms, of them %d ms for starting the processes", ready.Milliseconds(), started.Milliseconds())
	row(fmt.Sprintf("%d nodes started at once: all %d routes", n, n*(n-1)), "%d ms", time.Since(start).Milliseconds())
	return nil
}
