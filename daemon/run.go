package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"tulle/internal/version"
	"tulle/subnet/etcd"
)

// run is the daemon's life: it takes part in the network, and then follows etcd
// and the kernel until ctx ends, which is no error. It leaves the lease and all
// rows in the kernel as they are.
func run(ctx context.Context, c config, log *zap.Logger) error {
	log.Info("starting", zap.String("version", version.String()), zap.String("node", c.Node))
	for _, name := range c.unknownEnv {
		log.Warn("environment variable means nothing to tulled", zap.String("variable", name))
	}
	if err := mayAdministrate(); err != nil {
		return err
	}
	d := newDaemon(c, log)
	for _, dir := range []string{filepath.Dir(c.SubnetFile), c.StateDir} {
		_ = os.MkdirAll(dir, 0o755) // what can't be written there is told when it is tried
	}
	if err := d.claims.begin(c); err != nil {
		return err
	}
	defer d.claims.close()

	told := ctx // ends when we are told to stop
	g, ctx := errgroup.WithContext(ctx)
	if c.StatusAddr != "" {
		l, err := net.Listen("tcp", c.StatusAddr)
		if err != nil {
			return fmt.Errorf("--status-addr: %w; is another tulled running?", err)
		}
		g.Go(func() error { return d.serve(ctx, l) })
	}
	g.Go(func() error { return d.watchdog(ctx) })
	g.Go(func() error { return d.hearPlugin(ctx) })
	g.Go(func() error { return d.fromMemory(ctx) })
	g.Go(func() error {
		store, err := d.fromEtcd(ctx)
		if err != nil {
			return err
		}
		g.Go(func() error { return store.Keep(ctx, d.renewed) })
		g.Go(func() error { return store.Watch(ctx, d.follow) })
		g.Go(func() error { return store.Renewals(ctx) })
		g.Go(func() error { return d.memorize(ctx) })
		return store.Health(ctx, d.etcdUp)
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.begun:
		}
		g.Go(func() error { return d.kernel.Watch(ctx, d) })
		g.Go(func() error { return d.kernel.WatchRules(ctx, d) })
		g.Go(func() error { return d.kernel.WatchLegacyRules(ctx, d) })
		g.Go(func() error { return d.tend(ctx) })
		g.Go(func() error { return d.watchPeers(ctx) })
		g.Go(func() error { return d.serveMesh(ctx) })
		return d.rec.Run(ctx)
	})

	err := g.Wait()
	if errors.Is(err, etcd.ErrTaken) {
		err = errors.Join(err, disown(c))
	}
	if errors.Is(err, etcd.ErrLost) {
		err = errors.Join(err, withdraw(c))
	}
	if told.Err() != nil && errors.Is(err, context.Canceled) {
		log.Info("stopping; pods go on as they are, and the lease stays for its time", zap.Duration("ttl", c.TTL))
		return nil
	}
	if err == nil {
		err = errors.New("all work has ended without a fault, which can't be; start tulled again")
	}
	return err
}

// mayAdministrate returns an error if this process must not change the network.
func mayAdministrate() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("no right to change the network; run tulled as root or with the capability CAP_NET_ADMIN")
	}
	return nil
}
