package etcd

import (
	"context"

	"tulle/subnet"
)

// Read returns what etcd holds now.
func (s *Store) Read(ctx context.Context) (subnet.Snapshot, error) {
	v, err := s.read(ctx)
	if err != nil {
		return subnet.Snapshot{}, err
	}
	return v.snapshot(), nil
}

// PutNetwork stores a network configuration for all nodes.
func (s *Store) PutNetwork(ctx context.Context, n subnet.Network) error {
	return s.request(ctx, requestTimeout, "write the network", func(ctx context.Context) error {
		_, err := s.client.Put(ctx, s.configKey(), string(n.JSON()))
		return err
	})
}

// ConfigKey is the key of the network configuration, for messages.
func (s *Store) ConfigKey() string { return s.configKey() }
