package etcd_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tulle/internal/etcdtest"
	"tulle/subnet/etcd"
)

const (
	cantBeUsed = "the certificates for etcd can't be used; going on with those of before"
	renewed    = "the certificates for etcd were renewed"
)

// Both sides change from one CA to another, in the order in which an operator
// does it, and the store goes on throughout.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	old, next := etcdtest.NewCA(t, "old"), etcdtest.NewCA(t, "next")
	server, client := etcdtest.Pair{Cert: file("server.crt"), Key: file("server.key")}, etcdtest.Pair{Cert: file("client.crt"), Key: file("client.key")}
	old.Write(t, "etcd", server)
	old.Write(t, "tulle", client)
	etcdtest.Replace(t, file("both.crt"), slices.Concat(old.PEM, next.PEM))
	etcdtest.Replace(t, file("ca.crt"), old.PEM)
	url, stop := etcdtest.RunTLS(t, file("data"), "127.0.0.1:0", server, file("both.crt"))
	core, logs := observer.New(zap.InfoLevel)
	s, err := etcd.Open(t.Context(), etcd.Config{
		Endpoints: []string{url}, Prefix: prefix, CAFile: file("ca.crt"), CertFile: client.Cert, KeyFile: client.Key,
	}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	works := func(when string) {
		t.Helper()
		if _, err := s.Read(t.Context()); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	told := func(message string, want int) {
		t.Helper()
		if got := logs.FilterMessage(message).Len(); got != want {
			t.Errorf("%q was told %d times, want %d: %v", message, got, want, logs.All())
		}
	}
	works("at the start")

	etcdtest.Replace(t, file("ca.crt"), []byte("half a fi"))
	for range 2 {
		s.Reconnect()
		works("the CA's file is broken")
	}
	told(cantBeUsed, 1)

	etcdtest.Replace(t, file("ca.crt"), slices.Concat(old.PEM, next.PEM))
	s.Reconnect()
	works("both CAs are trusted")
	told(renewed, 1)

	key, err := os.ReadFile(client.Key)
	if err != nil {
		t.Fatal(err)
	}
	next.Write(t, "tulle", client)
	nextKey, err := os.ReadFile(client.Key)
	if err != nil {
		t.Fatal(err)
	}
	etcdtest.Replace(t, client.Key, key)
	s.Reconnect()
	works("the certificate is new and its key is not yet")
	told(cantBeUsed, 2)
	etcdtest.Replace(t, client.Key, nextKey)
	s.Reconnect()
	works("the certificate is new")
	told(renewed, 2)

	// The connection that stands is not checked again: none could be made now.
	etcdtest.Replace(t, file("ca.crt"), old.PEM)
	next.Write(t, "etcd", server)
	works("etcd's certificate is new, on the connection of before")
	told(renewed, 2)

	// etcd trusts the new CA alone, and so do we.
	etcdtest.Replace(t, file("ca.crt"), next.PEM)
	etcdtest.Replace(t, file("both.crt"), next.PEM)
	stop()
	_, stop = etcdtest.RunTLS(t, file("data"), strings.TrimPrefix(url, "https://"), server, file("both.crt"))
	t.Cleanup(stop)
	works("the old CA is gone")
	told(renewed, 3)
	told(cantBeUsed, 2)
}

// A certificate that etcd does not take is told as such, not as silence.
func TestRefusedCertificateIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ours, others := etcdtest.NewCA(t, "ours"), etcdtest.NewCA(t, "others")
	server, client := etcdtest.Pair{Cert: file("server.crt"), Key: file("server.key")}, etcdtest.Pair{Cert: file("client.crt"), Key: file("client.key")}
	ours.Write(t, "etcd", server)
	others.Write(t, "tulle", client)
	etcdtest.Replace(t, file("ca.crt"), ours.PEM)
	url, stop := etcdtest.RunTLS(t, file("data"), "127.0.0.1:0", server, file("ca.crt"))
	t.Cleanup(stop)
	for _, test := range []struct {
		name   string
		config etcd.Config
		want   string
	}{
		{"ours, signed by another CA", etcd.Config{CAFile: file("ca.crt"), CertFile: client.Cert, KeyFile: client.Key}, "remote error: tls: "},
		{"none of ours", etcd.Config{CAFile: file("ca.crt")}, "remote error: tls: certificate required"},
		{"etcd's, signed by a CA that we do not trust", etcd.Config{CAFile: client.Cert, CertFile: client.Cert, KeyFile: client.Key}, "certificate signed by unknown authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.WarnLevel)
			test.config.Endpoints, test.config.Prefix = []string{url}, prefix
			s, err := etcd.Open(t.Context(), test.config, zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			go func() { _, _ = s.Read(t.Context()) }() // until the test ends
			soon(t, "the cause is told", func() bool { return logs.Len() > 0 })
			if text := logs.All()[0].ContextMap()["error"]; !strings.Contains(text.(string), test.want) {
				t.Errorf("told %s, want %q", text, test.want)
			}
		})
	}
}

// TestUntil: a certificate's end is known without asking etcd.
func TestUntil(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := etcdtest.Pair{Cert: filepath.Join(dir, "node.crt"), Key: filepath.Join(dir, "node.key")}
	etcdtest.NewCA(t, "ca").Write(t, "node", pair)
	c := etcd.Config{Endpoints: []string{"https://192.0.2.1:2379"}, CertFile: pair.Cert, KeyFile: pair.Key}
	if left := time.Until(c.Until()); left < 29*24*time.Hour || left > 30*24*time.Hour {
		t.Errorf("it runs out in %s, want 30 days", left)
	}
	c.CertFile = filepath.Join(dir, "none.crt")
	if end := c.Until(); !end.IsZero() {
		t.Errorf("a certificate that is not there runs out at %s", end)
	}
	if end := (etcd.Config{}).Until(); !end.IsZero() {
		t.Errorf("no certificate runs out at %s", end)
	}
}
