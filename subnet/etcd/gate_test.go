package etcd_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// gate is a way to etcd that can be shut.
type gate struct {
	url string
	to  string

	mu sync.Mutex // guards all following fields

	closed bool
	conns  []net.Conn

	got atomic.Int64 // bytes from etcd
}

// newGate makes a way to the etcd at a URL, which is open.
func newGate(t *testing.T, url string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{url: "http://" + l.Addr().String(), to: strings.TrimPrefix(url, "http://")}
	t.Cleanup(func() { l.Close(); g.shut() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.pass(conn)
		}
	}()
	return g
}

// pass lets a connection through, if the gate is open.
func (g *gate) pass(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		conn.Close()
		return
	}
	on, err := net.Dial("tcp", g.to)
	if err != nil {
		conn.Close()
		return
	}
	g.conns = append(g.conns, conn, on)
	go pump(on, conn, io.Discard)
	go pump(conn, on, g)
}

// pump copies until one of both is closed.
func pump(to, from net.Conn, count io.Writer) {
	_, _ = io.Copy(io.MultiWriter(to, count), from)
	to.Close()
	from.Close()
}

// Write counts what comes from etcd.
func (g *gate) Write(b []byte) (int, error) {
	g.got.Add(int64(len(b)))
	return len(b), nil
}

// shut ends all connections and lets no other through.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

// open lets connections through again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}
