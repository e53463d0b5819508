package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tulle/subnet"
	"tulle/subnet/etcd"
)

func leaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lease",
		Short: "list, reserve or release the hosts' leases",
	}
	cmd.AddCommand(leaseListCommand(), leaseReserveCommand(), leaseReleaseCommand())
	return cmd
}

// errNoLease says that nobody has a subnet.
var errNoLease = errors.New("nobody has a lease of that subnet; see tullectl lease list")

// findLease finds the lease of a subnet, given as a prefix or by its key.
func findLease(ctx context.Context, s *etcd.Store, text string) (subnet.Record, error) {
	snapshot, err := s.Read(ctx)
	if err != nil {
		return subnet.Record{}, err
	}
	for r := range snapshot.Leases.All() {
		if r.Key() == text || strings.Join(subnets(r.Lease), " ") == text || subnets(r.Lease)[0] == text {
			return r, nil
		}
	}
	return subnet.Record{}, fmt.Errorf("%s: %w", text, errNoLease)
}

func subnets(l subnet.Lease) []string {
	var texts []string
	for _, p := range l.Subnets {
		if p.IsValid() {
			texts = append(texts, p.String())
		}
	}
	return texts
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
