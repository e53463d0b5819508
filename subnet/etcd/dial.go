package etcd

import (
	"context"
	"net"
	"strings"
)

// dial connects to an endpoint for gRPC, and keeps account of the connection.
func (s *Store) dial(ctx context.Context, addr string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", strings.TrimPrefix(path, "//")
	}
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns = map[net.Conn]bool{}
	}
	tracked := &conn{Conn: c, store: s}
	s.conns[tracked] = true
	return tracked, nil
}

// conn is a connection that its Store knows.
type conn struct {
	net.Conn
	store *Store
}

func (c *conn) Close() error {
	c.store.mu.Lock()
	delete(c.store.conns, c)
	c.store.mu.Unlock()
	signal(c.store.doubt)
	signal(c.store.dropped)
	return c.Conn.Close()
}

// Reconnect ends the connections to etcd, so that others are made at once: those
// from an address that this host has no longer would only be missed after the
// keepalive's time.
func (s *Store) Reconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.(*conn).Conn.Close() // the reader notices
	}
}
