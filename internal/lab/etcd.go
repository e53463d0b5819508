package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"tulle/subnet"
)

// EtcdURL is where etcd, or its first member, listens for the nodes.
func (l *Lab) EtcdURL() string { return l.EtcdHosts()[0].etcdURL(etcdPort) }

const (
	etcdName  = "etcd"
	etcdPort  = "2379"
	etcdPeers = "2380" // port that members speak to each other at
	etcdDir   = "/var/lib/etcd"
)

// EtcdURL is where a lab's etcd of one member listens for the nodes.
const EtcdURL = "http://192.0.2.1:" + etcdPort

// startTimeout is how long a process of the lab may take to answer. A busy
// machine needs some of it.
const startTimeout = time.Minute

// EtcdHosts are the hosts that run a member of etcd each: the underlay host, or
// several of their own.
func (l *Lab) EtcdHosts() []*Host {
	var hosts []*Host
	for _, h := range l.Hosts {
		if h.Role == RoleEtcd {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		hosts = l.Hosts[:min(1, len(l.Hosts))]
	}
	return hosts
}

// etcdAddr is the address that the others reach a member of etcd at.
func (h *Host) etcdAddr() netip.Addr { return h.Addrs[h.lab.Underlay.First()] }

// etcdURL is where the member of a host listens, at one of the two ports.
func (h *Host) etcdURL(port string) string {
	return "http://" + net.JoinHostPort(h.etcdAddr().String(), port)
}

// EtcdEndpoints lists where all members listen, as tulled takes it.
func (l *Lab) EtcdEndpoints() string {
	var urls []string
	for _, h := range l.EtcdHosts() {
		urls = append(urls, h.etcdURL(etcdPort))
	}
	return strings.Join(urls, ",")
}

// StartEtcd starts all members of etcd, with the data that earlier ones left
// there, and returns when each answers.
func (l *Lab) StartEtcd(ctx context.Context) error { return l.StartMembers(ctx, l.EtcdHosts()...) }

// StartMembers starts the members of etcd on some hosts, and returns when each
// answers, which it does when there are enough for a leader.
func (l *Lab) StartMembers(ctx context.Context, hosts ...*Host) error {
	var cluster []string
	for _, h := range l.EtcdHosts() {
		cluster = append(cluster, h.Name+"="+h.etcdURL(etcdPeers))
	}
	for _, h := range hosts {
		args := []string{"tullectl", "lab", "etcd", "--name", h.Name, "--address", h.etcdAddr().String(), "--cluster", strings.Join(cluster, ",")}
		if _, err := h.Keep(ctx, StartArgs{Name: etcdName, Args: args}); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if err := h.waitAnswer(ctx, etcdName, &h.Place, h.etcdURL(etcdPort)+"/health"); err != nil {
			return err
		}
	}
	return nil
}

// StopEtcd sends all members of etcd a signal and, unless that was SIGSTOP or
// SIGCONT, waits for their end.
func (l *Lab) StopEtcd(ctx context.Context, signal syscall.Signal) error {
	return l.StopMembers(ctx, signal, l.EtcdHosts()...)
}

// StopMembers does what StopEtcd does to the members on some hosts.
func (l *Lab) StopMembers(ctx context.Context, signal syscall.Signal, hosts ...*Host) error {
	return each(hosts, func(h *Host) error {
		_, err := h.stop(ctx, etcdName, signal)
		return err
	})
}

// WipeEtcd removes all data of an etcd that was stopped.
func (l *Lab) WipeEtcd(ctx context.Context) error {
	return each(l.EtcdHosts(), func(h *Host) error {
		_, err := h.Exec(ctx, "rm", "-rf", etcdDir)
		return err
	})
}

// EtcdOptions are the flags of `tullectl lab etcd`.
type EtcdOptions struct {
	Name    string // of the member
	Address string // of its host
	Cluster string // all members: NAME=URL,...
}

// RunEtcd is `tullectl lab etcd`: it serves until ctx ends.
func RunEtcd(ctx context.Context, o EtcdOptions) error {
	addr, err := netip.ParseAddr(o.Address)
	if err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	at := func(a netip.Addr, port string) url.URL {
		return url.URL{Scheme: "http", Host: net.JoinHostPort(a.String(), port)}
	}
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1}) // so that tullectl's defaults work on the host
	cfg := embed.NewConfig()
	cfg.Name = o.Name
	cfg.Dir = etcdDir
	cfg.ListenClientUrls = []url.URL{at(addr, etcdPort), at(local, etcdPort)}
	cfg.AdvertiseClientUrls = []url.URL{at(addr, etcdPort)}
	cfg.ListenPeerUrls = []url.URL{at(addr, etcdPeers)}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = o.Cluster
	cfg.LogLevel = "warn"
	cfg.UnsafeNoFsync = true // the data is in memory anyway
	if !strings.Contains(o.Cluster, ",") {
		cfg.TickMs, cfg.ElectionMs = 10, 100 // it elects itself, and nobody waits for others
	}
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

// networkFlags are those of tullectl network set for the network that Up makes.
func (l *Lab) networkFlags() []string {
	var flags []string
	for _, f := range l.Families.List() {
		name := [2]string{subnet.IPv4: "--network", subnet.IPv6: "--ipv6-network"}[f]
		flags = append(flags, name, addresses[f].pods.String())
	}
	if l.backend != "" {
		flags = append(flags, "--backend", l.backend)
	}
	if l.direct {
		flags = append(flags, "--direct-routing", "true")
	}
	return flags
}

// SetNetwork runs tullectl network set with these flags.
func (l *Lab) SetNetwork(ctx context.Context, flags ...string) error {
	args := append([]string{"tullectl", "network", "set", "--etcd-endpoints", l.EtcdEndpoints()}, flags...)
	_, err := l.Host("underlay").Exec(ctx, args...)
	return err
}
