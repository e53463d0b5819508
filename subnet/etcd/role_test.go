package etcd_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"tulle/internal/etcdtest"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// A guarded etcd has users, who are known by the names in their certificates.
type guarded struct {
	world
	dir string
	ca  etcdtest.CA
}

// newGuarded starts an etcd with the users and roles of
// Documentation/etcd-security.md.
func newGuarded(t *testing.T) guarded {
	t.Helper()
	g := guarded{dir: t.TempDir(), ca: etcdtest.NewCA(t, "ca")}
	etcdtest.Replace(t, g.file("ca.crt"), g.ca.PEM)
	server, root := g.pair(t, "etcd"), g.pair(t, "root")
	url, stop := etcdtest.RunTLS(t, g.file("data"), "127.0.0.1:0", server, g.file("ca.crt"))
	t.Cleanup(stop)
	cert, err := tls.LoadX509KeyPair(root.Cert, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(g.ca.PEM)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	g.world = world{url, client}
	ctx, noPassword := t.Context(), &clientv3.UserAddOptions{NoPassword: true}
	const read, readWrite = clientv3.PermissionType(clientv3.PermRead), clientv3.PermissionType(clientv3.PermReadWrite)
	grant := func(role, prefix string, what clientv3.PermissionType) error {
		return second(client.RoleGrantPermission(ctx, role, prefix, clientv3.GetPrefixRangeEnd(prefix), what))
	}
	for _, err := range []error{
		second(client.RoleAdd(ctx, "tulle-node")),
		grant("tulle-node", prefix+"/", read),
		grant("tulle-node", prefix+"/subnets/", readWrite),
		second(client.RoleAdd(ctx, "tulle-operator")),
		grant("tulle-operator", prefix+"/", readWrite),
		second(client.UserAddWithOptions(ctx, "node", "", noPassword)), second(client.UserGrantRole(ctx, "node", "tulle-node")),
		second(client.UserAddWithOptions(ctx, "operator", "", noPassword)), second(client.UserGrantRole(ctx, "operator", "tulle-operator")),
		second(client.UserAddWithOptions(ctx, "stranger", "", noPassword)),
		second(client.UserAdd(ctx, "password", "secret")), second(client.UserGrantRole(ctx, "password", "tulle-node")),
		second(client.UserAdd(ctx, "root", "secret")), second(client.UserGrantRole(ctx, "root", "root")),
		second(client.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g guarded) file(name string) string { return filepath.Join(g.dir, name) }

func (g guarded) pair(t *testing.T, user string) etcdtest.Pair {
	t.Helper()
	p := etcdtest.Pair{Cert: g.file(user + ".crt"), Key: g.file(user + ".key")}
	g.ca.Write(t, user, p)
	return p
}

func (g guarded) as(t *testing.T, user string, c etcd.Config) *etcd.Store {
	t.Helper()
	p := g.pair(t, user)
	c.Endpoints, c.Prefix, c.CAFile, c.CertFile, c.KeyFile = []string{g.url}, prefix, g.file("ca.crt"), p.Cert, p.Key
	s, err := etcd.Open(t.Context(), c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The roles are enough for what each of both does, and for nothing else.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	n, err := subnet.ParseNetwork([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	operator := g.as(t, "operator", etcd.Config{})
	if err := operator.PutNetwork(t.Context(), n); err != nil {
		t.Fatalf("the operator sets the network: %v", err)
	}
	for _, test := range []struct {
		name, user, addr, other string
		config                  etcd.Config
	}{
		{"by certificate", "node", "192.0.2.10", "192.0.2.11", etcd.Config{}},
		{"by certificate and password", "password", "192.0.2.12", "192.0.2.13", etcd.Config{Username: "password", Password: "secret"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := g.as(t, test.user, test.config)
			short := 10 * time.Second
			l, err := s.Acquire(t.Context(), short, node(test.user, test.addr))
			if err != nil {
				t.Fatal(err)
			}
			newest, failed := keep(t, s)
			there := func(key string) func() bool {
				return func() bool { _, ok := newest().Leases.Get(key); return ok }
			}
			soon(t, "own lease is told", there(l.Key()))
			peer := acquire(t, g.as(t, "node", etcd.Config{}), node("peer of "+test.user, test.other))
			soon(t, "a peer comes", there(peer.Key()))
			before := time.Now()
			soon(t, "the lease is renewed", func() bool { at, _ := s.Alive(); return at.After(before) })
			record, _ := newest().Leases.Get(peer.Key())
			if err := operator.Release(t.Context(), record); err != nil {
				t.Errorf("the operator releases a lease: %v", err)
			}
			soon(t, "the peer goes", func() bool { return !there(peer.Key())() })
			g.delete(t, "/subnets/"+l.Key())
			soon(t, "the own lease is taken again", func() bool { _, id, _ := g.get(t, "/subnets/"+l.Key()); return id != 0 })
			if err := s.PutNetwork(t.Context(), n); !errors.Is(err, etcd.ErrRefused) {
				t.Errorf("a node sets the network: %v, want %v", err, etcd.ErrRefused)
			}
			// A restart finds it again, and asks for its time to live.
			again := g.as(t, test.user, test.config)
			if back, err := again.Acquire(t.Context(), short, node(test.user, test.addr)); err != nil || back != l {
				t.Errorf("after a restart: %v, %v, want %v", back, err, l)
			}
			record, _ = newest().Leases.Get(l.Key())
			if left, granted, err := again.Left(t.Context(), record); err != nil || granted == 0 {
				t.Errorf("time left = %d of %d, %v", left, granted, err)
			}
			select {
			case err := <-failed:
				t.Errorf("ended with %v", err)
			default:
			}
		})
	}
	for _, test := range []struct {
		name string
		do   func(*etcd.Store) error
	}{
		{"that nobody knows reads", func(*etcd.Store) error { return second(g.as(t, "nobody", etcd.Config{}).Read(t.Context())) }},
		{"reads", func(s *etcd.Store) error { return second(s.Read(t.Context())) }},
		{"sets the network", func(s *etcd.Store) error { return s.PutNetwork(t.Context(), n) }},
		{"takes a lease", func(s *etcd.Store) error {
			return second(s.Acquire(t.Context(), ttl, node("stranger", "192.0.2.99")))
		}},
	} {
		t.Run("a stranger "+test.name, func(t *testing.T) {
			if err := test.do(g.as(t, "stranger", etcd.Config{})); !errors.Is(err, etcd.ErrRefused) {
				t.Errorf("error = %v, want %v", err, etcd.ErrRefused)
			}
		})
	}
}
