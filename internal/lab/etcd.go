package lab

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"tulle/subnet"
)

// EtcdURL is where the lab's etcd listens for the nodes.
func (l *Lab) EtcdURL() string {
	return "http://" + netip.AddrPortFrom(addresses[l.Underlay.First()].underlay.Addr(), 2379).String()
}

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
	if _, err := h.Keep(ctx, StartArgs{Name: etcdName, Args: []string{"tullectl", "lab", "etcd", "--url", l.EtcdURL()}}); err != nil {
		return err
	}
	return h.waitAnswer(ctx, etcdName, &h.Place, l.EtcdURL()+"/health")
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

// RunEtcd is `tullectl lab etcd`: it serves the nodes at nodesURL until ctx ends.
func RunEtcd(ctx context.Context, nodesURL string) error {
	forNodes, err := url.Parse(nodesURL)
	if err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Dir = etcdDir
	cfg.ListenClientUrls = []url.URL{*forNodes, parseURL(etcdLocal)}
	cfg.AdvertiseClientUrls = []url.URL{*forNodes}
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

// networkFlags are those of tullectl network set for the network that Up makes.
func (l *Lab) networkFlags() []string {
	var flags []string
	for _, f := range l.Families.List() {
		name := [2]string{subnet.IPv4: "--network", subnet.IPv6: "--ipv6-network"}[f]
		flags = append(flags, name, addresses[f].pods.String())
	}
	return flags
}

// SetNetwork runs tullectl network set with these flags.
func (l *Lab) SetNetwork(ctx context.Context, flags ...string) error {
	args := append([]string{"tullectl", "network", "set", "--etcd-endpoints", l.EtcdURL()}, flags...)
	_, err := l.Host("underlay").Exec(ctx, args...)
	return err
}
