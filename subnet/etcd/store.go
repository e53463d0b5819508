// Package etcd keeps the Network and the Leases in etcd (v3), in the layout of
// Documentation/etcd-layout.md.
package etcd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"tulle/subnet"
)

// Store is one network's part of etcd. Its methods may be used at the same
// time; Acquire comes before Keep and Watch.
type Store struct {
	client *clientv3.Client
	config Config
	log    *zap.Logger
	lost   chan struct{} // size one; Watch and Renew send when our lease is not as it should be, Keep receives

	// Both of size one; conn sends when a connection has ended, for what is behind
	// the next may be another etcd.
	doubt   chan struct{} // Watch receives
	dropped chan struct{} // changed receives

	restarts atomic.Uint64 // of Watch

	renewing *renewing // the certificates; nil: no files are given

	mu sync.Mutex // guards all following fields

	held  held
	alive time.Time    // when etcd last said that it keeps our lease
	next  subnet.Lease // what our lease is about to become
	conns map[net.Conn]bool
	seen  *view // by Acquire, just before the lease was held; for Watch to begin with

	patience time.Duration // that a request needed, when etcd was slow; 0: none

	reach sync.Mutex // guards all following fields

	connected  bool
	unanswered int        // requests that are tried again and again
	up         func(bool) // of Health; nil before
}

// Open connects to etcd. It waits until etcd answers only where a password has
// to be checked; the error then says what etcd objects to.
func Open(ctx context.Context, c Config, log *zap.Logger) (*Store, error) {
	cc, err := c.client()
	if err != nil {
		return nil, err
	}
	cc.Context = ctx
	s := &Store{config: c, log: log, lost: make(chan struct{}, 1), doubt: make(chan struct{}, 1), dropped: make(chan struct{}, 1)}
	cc.DialOptions = append(cc.DialOptions, grpc.WithContextDialer(s.dial))
	if c.CAFile != "" || c.CertFile != "" {
		s.renewing = newRenewing(cc.TLS, c.tls, log)
		cc.DialOptions = append(cc.DialOptions, grpc.WithTransportCredentials(s.renewing)) // the last one counts
	}
	err = s.untilAnswered(ctx, "connect", func(context.Context) (err error) {
		s.client, err = clientv3.New(cc)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the connection. Leases stay until they run out.
func (s *Store) Close() error { return s.client.Close() }

// The keys. Nothing else may begin with the subnets directory's name, not even
// "subnets-x": released flannel takes such a key for the loss of all leases.
func (s *Store) configKey() string  { return s.config.Prefix + "/config" }
func (s *Store) subnetsDir() string { return s.config.Prefix + "/subnets/" }

func (s *Store) leaseKey(key string) string { return s.subnetsDir() + key }

// endpoints is for messages.
func (s *Store) endpoints() string { return strings.Join(s.config.Endpoints, ", ") }

// request makes one request with a bound on its time.
func (s *Store) request(ctx context.Context, bound time.Duration, what string, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := do(bounded); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("etcd at %s: %s: %w", s.endpoints(), what, explain(err))
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way already
	}
}
