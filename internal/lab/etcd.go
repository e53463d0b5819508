package lab

import (
	"context"
	"fmt"
	"net/url"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// EtcdURL is where the lab's etcd listens for the nodes.
const EtcdURL = "http://192.0.2.1:2379"

const (
	etcdName  = "etcd"
	etcdLocal = "http://127.0.0.1:2379" // so that tullectl's defaults work on the underlay host
	etcdPeers = "http://127.0.0.1:2380"
	etcdDir   = "/var/lib/etcd"
)

// startTimeout is how long a process of the lab may take to answer. A busy
// machine needs some of it.
const startTimeout = time.Minute

// StartEtcd starts etcd on the underlay host, with the data that an earlier one
// left there, and returns when it answers.
func (l *Lab) StartEtcd(ctx context.Context) error {
	h := l.Host("underlay")
	if _, err := h.Keep(ctx, StartArgs{Name: etcdName, Args: []string{"tullectl", "lab", "etcd"}}); err != nil {
		return err
	}
	return h.waitAnswer(ctx, etcdName, &h.Place, EtcdURL+"/health")
}

// StopEtcd sends etcd a signal and, unless that was SIGSTOP or SIGCONT, waits
// for its end.
func (l *Lab) StopEtcd(ctx context.Context, signal syscall.Signal) error {
	_, err := l.Host("underlay").stop(ctx, etcdName, signal)
	return err
}

// WipeEtcd removes all data of an etcd that was stopped.
func (l *Lab) WipeEtcd(ctx context.Context) error {
	_, err := l.Host("underlay").Exec(ctx, "rm", "-rf", etcdDir)
	return err
}

// RunEtcd is `tullectl lab etcd`: it serves until ctx ends.
func RunEtcd(ctx context.Context) error {
	cfg := embed.NewConfig()
	cfg.Dir = etcdDir
	cfg.ListenClientUrls = []url.URL{parseURL(EtcdURL), parseURL(etcdLocal)}
	cfg.AdvertiseClientUrls = []url.URL{parseURL(EtcdURL)}
	cfg.ListenPeerUrls = []url.URL{parseURL(etcdPeers)}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "warn"
	cfg.UnsafeNoFsync = true             // the data is in memory anyway
	cfg.TickMs, cfg.ElectionMs = 10, 100 // it elects itself, and nobody waits for others
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer e.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("etcd: %w", err)
	}
}

func parseURL(text string) url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err) // the constants above
	}
	return *u
}

// SetNetwork runs tullectl network set with these flags.
func (l *Lab) SetNetwork(ctx context.Context, flags ...string) error {
	args := append([]string{"tullectl", "network", "set", "--etcd-endpoints", EtcdURL}, flags...)
	_, err := l.Host("underlay").Exec(ctx, args...)
	return err
}
