package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"tulle/internal/status"
	"tulle/subnet"
)

// Bounds of what is asked of other nodes: how many at a time, and how long each
// may take.
const (
	meshAtOnce = 32
	meshTime   = 2 * time.Second
)

// serveMesh answers peers that ask what this node reaches, on its own address
// inside the overlay, until ctx ends. Nobody else is answered.
func (d *daemon) serveMesh(ctx context.Context) error {
	if d.config.MeshPort == 0 {
		return nil
	}
	for ctx.Err() == nil {
		if err := d.serveMeshAt(ctx, d.overlayAddrs()); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// overlayAddrs is this node's own.
func (d *daemon) overlayAddrs() [2]netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.site.overlayAddrs(d.site.self)
}

// serveMeshAt answers at these addresses until they are others, or ctx ends.
func (d *daemon) serveMeshAt(ctx context.Context, own [2]netip.Addr) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /reached", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.reached()) })
	s := &http.Server{Handler: mux, ReadTimeout: meshTime, WriteTimeout: meshTime, MaxHeaderBytes: 4 << 10}
	g, serving := errgroup.WithContext(ctx)
	for _, a := range own {
		if !a.IsValid() {
			continue
		}
		at := netip.AddrPortFrom(a, d.config.MeshPort).String()
		l, err := (&net.ListenConfig{Control: beforeAddress}).Listen(ctx, "tcp", at)
		if err != nil {
			// All else works without it.
			d.log.Warn("peers can't ask this node what it reaches; tullectl mesh misses it elsewhere", zap.String("address", at), zap.Error(err))
			continue
		}
		g.Go(func() error { return s.Serve(peersOnly{l, d}) })
	}
	for same := true; same && serving.Err() == nil; {
		select {
		case <-serving.Done():
		case <-d.settled:
			same = d.overlayAddrs() == own
		}
	}
	_ = s.Close()
	if err := g.Wait(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer peers: %w", err)
	}
	return nil
}

// beforeAddress lets a socket listen on an address that is not there yet, or is
// away for a while (ip(7)).
func beforeAddress(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
	return errors.Join(controlErr, err)
}

// peersOnly takes connections that come from a peer's own address.
type peersOnly struct {
	net.Listener
	d *daemon
}

func (l peersOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err == nil && l.d.isNode(from.Addr().Unmap()) {
			return conn, nil
		}
		conn.Close()
	}
}

// isNode reports whether an address is one that a node sends from to those of nodes
// inside the overlay: its own there or, by a plain route, that of the underlay.
func (d *daemon) isNode(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, ok := d.plan.Holder(a)
	if !ok {
		return false
	}
	r, ok := d.leases.Get(key)
	f := subnet.FamilyOf(a)
	return ok && (d.site.overlayAddrs(r.Lease)[f] == a || d.site.network.Backend.DirectRouting && r.Addrs[f] == a)
}

// reached is what this node knows of its peers.
func (d *daemon) reached() status.Reached {
	d.mu.Lock()
	leases, self := d.leases, d.site.self
	d.mu.Unlock()
	return status.Reached{Node: self.Node, Subnet: subnetsText(self), Peers: d.reachability.all(leases)}
}

func subnetsText(l subnet.Lease) string {
	var texts []string
	for _, p := range l.Subnets {
		if p.IsValid() {
			texts = append(texts, p.String())
		}
	}
	return strings.Join(texts, " ")
}

// mesh asks all nodes what they reach.
func (d *daemon) mesh(ctx context.Context) status.Mesh {
	d.mu.Lock()
	leases, here := d.leases, d.site
	d.mu.Unlock()
	var (
		g  errgroup.Group
		mu sync.Mutex // guards m
		m  = status.Mesh{Nodes: []status.Reached{d.reached()}}
	)
	g.SetLimit(meshAtOnce)
	client := &http.Client{Timeout: meshTime, Transport: &http.Transport{DisableKeepAlives: true}}
	for r := range leases.All() {
		if r.Key() == here.self.Key() || r.Awaited() {
			continue
		}
		g.Go(func() error {
			told, err := ask(ctx, client, here, r.Lease, d.config.MeshPort)
			if err != nil {
				told = status.Reached{Error: err.Error(), Peers: map[string]status.Reach{}}
			}
			told.Node, told.Subnet = r.Node, subnetsText(r.Lease) // which etcd knows better than the peer
			mu.Lock()
			m.Nodes = append(m.Nodes, told)
			mu.Unlock()
			return nil
		})
	}
	_ = g.Wait() // of no errors
	slices.SortFunc(m.Nodes, func(a, b status.Reached) int { return strings.Compare(a.Node+" "+a.Subnet, b.Node+" "+b.Subnet) })
	return m
}

// ask asks one node what it reaches.
func ask(ctx context.Context, client *http.Client, here site, l subnet.Lease, port uint16) (told status.Reached, err error) {
	if port == 0 {
		return told, errors.New("not asked: --mesh-port is 0 here")
	}
	for _, a := range here.overlayAddrs(l) {
		if !a.IsValid() {
			continue
		}
		url := "http://" + net.JoinHostPort(a.String(), strconv.Itoa(int(port))) + "/reached"
		var req *http.Request
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err != nil {
			return told, err
		}
		var resp *http.Response
		if resp, err = client.Do(req); err != nil {
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				err = fmt.Errorf("no answer from %s within %s", req.URL.Host, meshTime)
			}
			continue
		}
		defer resp.Body.Close()
		const most = 16 << 20 // of 10,000 peers
		return told, json.NewDecoder(http.MaxBytesReader(nil, resp.Body, most)).Decode(&told)
	}
	return told, err
}
