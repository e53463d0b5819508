package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrRefused says that etcd answers and does not let us: trying again does not
// help before somebody changes a password, a right or a certificate.
var ErrRefused = errors.New("refused")

// errNoAnswer says that etcd can't be reached or has no leader, and errTrouble
// that it answers with an error of its own: both pass.
var (
	errNoAnswer = errors.New("no answer")
	errTrouble  = errors.New("it has a fault of its own")
)

// explain puts etcd's errors into the operator's words.
func explain(err error) error {
	var known rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &known) {
		code = known.Code()
	}
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Errorf("%w: wrong user name or password", ErrRefused)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Errorf("%w: it wants a user name and a password; give --etcd-username and --etcd-password", ErrRefused)
	case code == codes.PermissionDenied:
		return fmt.Errorf("%w: the user has no right to these keys; see Documentation/etcd-security.md", ErrRefused)
	}
	if errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded || code == codes.Unavailable {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	switch code {
	case codes.ResourceExhausted, codes.Internal, codes.Unknown, codes.Aborted, codes.DataLoss, codes.Unauthenticated, // its disk is full, say
		codes.FailedPrecondition,            // this member is none of the cluster any more
		codes.Canceled, codes.Unimplemented: // a proxy has nothing behind it
		return fmt.Errorf("%w: %w", errTrouble, err)
	}
	if errors.Is(err, rpctypes.ErrAuthOldRevision) { // somebody changes users and rights at this moment
		return fmt.Errorf("%w: %w", errTrouble, err)
	}
	return err
}

// faultOf is which of the faults of etcd that may pass an error is, or nil.
func faultOf(err error) error {
	for _, fault := range []error{errNoAnswer, errTrouble, ErrRefused} {
		if errors.Is(err, fault) {
			return fault
		}
	}
	return nil
}

// Between tries while etcd is away or has a fault. Where it refuses, it has to
// look at a password each time, which is meant to be slow.
const (
	tryFirst   = 100 * time.Millisecond
	tryMost    = 2 * time.Second
	tryRefused = 15 * time.Second
)

// untilAnswered makes a request again and again while etcd is away or has a fault
// of its own; where we are to it what we were, because a lease is held already,
// also while it refuses. It says so when that begins, once for each of the three,
// and when it ends. Each try has more time than the last, for etcd may be slow;
// when it was, the next request has that time from the first.
func (s *Store) untilAnswered(ctx context.Context, what string, do func(context.Context) error) error {
	began := time.Now()
	wait, most := tryFirst, tryMost
	bound := s.patient() // short, so that it is told soon
	var told []error     // of the three
	for {
		asked := time.Now()
		err := s.request(ctx, bound, what, do)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fault := faultOf(err)
		if fault == nil || fault == ErrRefused && s.holding().claim == nil {
			s.answered(time.Since(asked), bound)
			if told != nil {
				s.reached(func() { s.unanswered-- })
				s.log.Info("etcd answers again", zap.Duration("after", time.Since(began).Round(time.Millisecond)))
			}
			return err
		}
		if told == nil {
			s.reached(func() { s.unanswered++ })
		}
		if !slices.Contains(told, fault) {
			told = append(told, fault)
			if cause := s.cause(ctx); cause != nil && fault == errNoAnswer {
				err = fmt.Errorf("%s: %w: %w", what, errNoAnswer, cause)
			}
			s.log.Warn("etcd gives no answer, or none that helps; trying until it does", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait + rand.N(wait/4)): // not all nodes at once
		}
		if fault == ErrRefused {
			most = tryRefused
		}
		wait, bound = min(2*wait, most), min(4*bound, patientTimeout)
	}
}

// patient is how long the first try of a request may take.
func (s *Store) patient() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(firstTimeout, s.patience)
}

// answered notes how long an answer took, within a bound.
func (s *Store) answered(took, bound time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patience = 0
	if took > firstTimeout {
		s.patience = bound
	}
}

// cause finds out why no endpoint answers, by connecting to each as the client
// does. The client itself only says that time is up.
func (s *Store) cause(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var errs []error
	for _, e := range s.config.Endpoints {
		if err := s.connect(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) connect(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	network, addr := "tcp", u.Host
	if strings.HasPrefix(u.Scheme, "unix") {
		network, addr = "unix", u.Path
	}
	var conn net.Conn
	if strings.HasSuffix(u.Scheme, "s") {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if s.renewing != nil {
			config = s.renewing.current()
		}
		conn, err = (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
		if err != nil {
			return err
		}
		if err := refusal(conn); err != nil {
			return errors.Join(err, conn.Close())
		}
	} else if conn, err = (&net.Dialer{}).DialContext(ctx, network, addr); err != nil {
		return err
	}
	return conn.Close()
}

// refusalTime is how long etcd may take to refuse a certificate.
const refusalTime = 300 * time.Millisecond

// refusal is what etcd objects to in our certificate: with TLS 1.3 it says so
// when we take the connection to be made already. An etcd that has no objection
// waits for us to speak.
func refusal(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(refusalTime)); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
