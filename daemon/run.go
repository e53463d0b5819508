package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/internal/version"
	"tulle/subnet/etcd"
)

// run is the daemon's life: it takes the lease, and then follows etcd and the
// kernel until ctx ends, which is no error. It leaves the lease and all rows in
// the kernel as they are.
func run(ctx context.Context, c config, log *zap.Logger) error {
	log.Info("starting", zap.String("version", version.String()), zap.String("node", c.Node))
	for _, name := range c.unknownEnv {
		log.Warn("environment variable means nothing to tulled", zap.String("variable", name))
	}
	if err := mayAdministrate(); err != nil {
		return err
	}
	d := newDaemon(c, log)

	g, ctx := errgroup.WithContext(ctx)
	if c.StatusAddr != "" {
		l, err := net.Listen("tcp", c.StatusAddr)
		if err != nil {
			return fmt.Errorf("--status-addr: %w; is another tulled running?", err)
		}
		g.Go(func() error { return d.serve(ctx, l) })
	}
	g.Go(func() error {
		n, err := d.start(ctx)
		if err != nil {
			return err
		}
		rec := backend.NewReconciler(n.kernel, d.passed)
		d.started(n, rec)
		g.Go(func() error { return n.store.Keep(ctx) })
		g.Go(func() error { return n.store.Watch(ctx, d.follow) })
		g.Go(func() error { return n.store.Health(ctx, d.etcdUp) })
		g.Go(func() error { return n.kernel.Watch(ctx, rec) })
		g.Go(func() error { return n.kernel.WatchRules(ctx, rec) })
		g.Go(func() error { return n.kernel.WatchLegacyRules(ctx, rec) })
		return rec.Run(ctx)
	})

	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		log.Info("stopping; pods go on as they are, and the lease stays for its time", zap.Duration("lease", c.TTL))
		return nil
	}
	return err
}

// start connects to etcd and takes the lease.
func (d *daemon) start(ctx context.Context) (*node, error) {
	d.phase("connecting to etcd")
	store, err := etcd.Open(ctx, d.config.Etcd, d.log)
	if err != nil {
		return nil, err
	}
	d.phase("waiting for etcd and a network configuration")
	n := &node{config: d.config, store: store, log: d.log}
	lease, err := store.Acquire(ctx, d.config.TTL, n.claim)
	if err != nil {
		return nil, err
	}
	n.self = lease
	d.log.Info("lease held", zap.Stringer("subnet", lease))
	if err := remember(d.config.StateDir, lease); err != nil {
		d.log.Warn("the lease can't be noted; after a long absence this node may get another subnet", zap.Error(err))
	}
	d.phase("writing the kernel's tables")
	return n, nil
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
