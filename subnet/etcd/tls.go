package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
)

// tls is what the files hold now. It is nil where no file is given; a CA alone is
// enough.
func (c Config) tls() (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" && c.KeyFile == "" {
		return nil, nil
	}
	var faults []error
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		config.RootCAs = x509.NewCertPool()
		if err != nil {
			faults = append(faults, fmt.Errorf("--etcd-cafile: %w", err))
		} else if !config.RootCAs.AppendCertsFromPEM(pem) {
			faults = append(faults, fmt.Errorf("--etcd-cafile: %s has no certificate in PEM form", c.CAFile))
		}
	}
	switch {
	case (c.CertFile == "") != (c.KeyFile == ""):
		faults = append(faults, errors.New("--etcd-certfile and --etcd-keyfile must be given together"))
	case c.CertFile != "":
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			faults = append(faults, fmt.Errorf("--etcd-certfile %s, --etcd-keyfile %s: %w", c.CertFile, c.KeyFile, err))
		}
		// Not as one of Certificates: these are only shown to an etcd that names
		// their CA, and one that does not has to say what it objects to.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return config, errors.Join(faults...)
}

// renewing are TLS credentials of files that somebody renews from time to time.
// They are read for each connection. Connections that stand are left alone.
type renewing struct {
	credentials.TransportCredentials // of the files as they were at the start, for what is no handshake

	read func() (*tls.Config, error)
	log  *zap.Logger

	mu sync.Mutex // guards all following fields

	last  *tls.Config // as the files were when they could be used last
	fault string      // why what the files hold now can't be used
}

func newRenewing(first *tls.Config, read func() (*tls.Config, error), log *zap.Logger) *renewing {
	return &renewing{TransportCredentials: credentials.NewTLS(first), read: read, log: log, last: first}
}

// ClientHandshake implements credentials.TransportCredentials.
func (r *renewing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(r.current()).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials. The clone is the same: there
// is nothing in it that a connection of its own would have.
func (r *renewing) Clone() credentials.TransportCredentials { return r }

// current is what the files hold, or held when they could be used last: while
// somebody writes them, they may be half of the old and half of the new.
func (r *renewing) current() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.read()
	if err != nil {
		if r.fault != err.Error() {
			r.fault = err.Error()
			r.log.Warn("the certificates for etcd can't be used; going on with those of before", zap.Error(err))
		}
		return r.last
	}
	if r.fault != "" || !alike(now, r.last) {
		r.log.Info("the certificates for etcd were renewed", zap.Time("until", ends(now)))
	}
	r.last, r.fault = now, ""
	return r.last
}

// alike reports whether the two trust the same and show the same.
func alike(a, b *tls.Config) bool {
	return a.RootCAs.Equal(b.RootCAs) && slices.EqualFunc(shown(a).Certificate, shown(b).Certificate, bytes.Equal)
}

// shown is the certificate that etcd is shown; an empty one if there is none.
func shown(c *tls.Config) *tls.Certificate {
	if c.GetClientCertificate == nil {
		return &tls.Certificate{}
	}
	cert, _ := c.GetClientCertificate(nil) // as made above: never an error
	return cert
}

// ends is when the certificate that etcd is shown runs out; zero if there is none.
func ends(c *tls.Config) time.Time {
	if leaf := shown(c).Leaf; leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

// Times of Renewals: how often it reads the files, and how long before the end
// of a certificate it warns.
const (
	readFiles = time.Minute
	warnAhead = 7 * 24 * time.Hour
)

// Renewals reads the certificates' files from time to time, until ctx ends, so
// that the log tells of what is wrong with them while the connections of before
// still stand.
func (s *Store) Renewals(ctx context.Context) error {
	if s.renewing == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(readFiles)
	defer tick.Stop()
	var warned time.Time // of the certificate with this end
	for {
		end := ends(s.renewing.current())
		if !end.IsZero() && !end.Equal(warned) && time.Until(end) < warnAhead {
			warned = end
			s.log.Warn("our certificate for etcd runs out soon; renew it", zap.String("file", s.config.CertFile), zap.Time("until", end))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
