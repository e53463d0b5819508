// Package etcdtest runs a real etcd inside a test.
package etcdtest

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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
	return run(t, dir, url.URL{Scheme: "http", Host: addr}, func(*embed.Config) {})
}

// RunTLS is Run with TLS: etcd shows the certificate of its own, and wants one of
// its clients that is signed by a CA of the file trusted. It reads its own at each
// connection, as etcd does, and trusted at its start.
func RunTLS(t testing.TB, dir, addr string, own Pair, trusted string) (clientURL string, stop func()) {
	t.Helper()
	return run(t, dir, url.URL{Scheme: "https", Host: addr}, func(c *embed.Config) {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = own.Cert, own.Key
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = trusted, true
	})
}

func run(t testing.TB, dir string, at url.URL, more func(*embed.Config)) (clientURL string, stop func()) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = dir
	c.ListenClientUrls = []url.URL{at}
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.LogLevel = "fatal"
	c.UnsafeNoFsync = true // nothing here outlives the test
	c.BcryptCost = 4       // nor do its passwords
	more(c)
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	<-e.Server.ReadyNotify()
	return at.Scheme + "://" + e.Clients[0].Addr().String(), e.Close
}

// Alarm tells an etcd that one of its members has no space left, as it tells
// itself when its quota is used up. From then on it refuses what needs space.
func Alarm(ctx context.Context, clientURL string, member uint64) error {
	conn, err := grpc.NewClient(strings.TrimPrefix(clientURL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = etcdserverpb.NewMaintenanceClient(conn).Alarm(ctx, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	return err
}
