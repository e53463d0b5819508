package etcd

import (
	"context"

	"go.uber.org/zap"
	"google.golang.org/grpc/connectivity"
)

// Health tells up whether there is a connection to etcd and no request that it
// leaves unanswered, at once and whenever that may have changed, until ctx ends.
// It asks etcd nothing: it follows the connection, which keepalives show to be
// alive, and what others ask.
func (s *Store) Health(ctx context.Context, up func(bool)) error {
	s.reached(func() { s.up = up })
	conn := s.client.ActiveConnection()
	was := true // so that a connection which is down from the start is told
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			if !was {
				s.log.Info("connected to etcd again", zap.Strings("endpoints", s.config.Endpoints))
			}
			was = true
			s.reached(func() { s.connected = true })
		case connectivity.TransientFailure:
			if was {
				s.log.Warn("no connection to etcd; pods go on as before", zap.Strings("endpoints", s.config.Endpoints))
			}
			was = false
			s.reached(func() { s.connected = false })
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// reached notes how etcd is reached and tells it.
func (s *Store) reached(note func()) {
	s.reach.Lock()
	defer s.reach.Unlock()
	note()
	if s.up != nil {
		s.up(s.connected && s.unanswered == 0)
	}
}
