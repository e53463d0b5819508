// Package etcdtest runs a real etcd inside a test.
package etcdtest

import (
	"net/url"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
)

// Start runs an etcd of one member, with its data in a temporary folder, until
// the test ends. It returns the URL that clients use.
func Start(t testing.TB) string {
	t.Helper()
	url, stop := Run(t, t.TempDir(), "127.0.0.1:0")
	t.Cleanup(stop)
	return url
}

// Run runs an etcd on the data in dir, listening on addr. A stopped etcd can be
// run again with the same arguments.
func Run(t testing.TB, dir, addr string) (clientURL string, stop func()) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = dir
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: addr}}
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.LogLevel = "fatal"
	c.UnsafeNoFsync = true // nothing here outlives the test
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	<-e.Server.ReadyNotify()
	return "http://" + e.Clients[0].Addr().String(), e.Close
}
