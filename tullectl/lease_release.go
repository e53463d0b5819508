package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

func leaseReleaseCommand() *cobra.Command {
	var c etcd.Config
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "release SUBNET",
		Short: "free the subnet of a host that is gone",
		Long: `release deletes a lease, so that other hosts drop their routes to it and its subnet
can be leased again. It refuses the lease of a host that lives, which would take it
again at once, and a reservation, unless it is told to with --force.

A host lives that renewed its lease within the last two minutes (with a lease of less
than three minutes: two thirds of it), which its tulled does every minute. After
etcd has chosen another leader all leases look as if they were just renewed. flannel
renews its leases only in their last hour, so that of none is known to be dead.`,
		Example: "  tullectl lease release 10.244.60.0/24",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				r, err := findLease(ctx, s, args[0])
				if err != nil {
					return err
				}
				if !force {
					if err := checkDead(ctx, s, r); err != nil {
						return err
					}
				}
				if err := s.Release(ctx, r); err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), rowOf(r))
				}
				fmt.Fprintf(cmd.OutOrStdout(), "released %s\n", r.Lease)
				return nil
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	cmd.Flags().BoolVar(&force, "force", false, "release it even if its host may be alive, or it is a reservation")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// checkDead returns an error unless a lease's host is dead, for all that is known.
func checkDead(ctx context.Context, s *etcd.Store, r subnet.Record) error {
	if r.ID == 0 {
		return fmt.Errorf("%s is a reservation; release it with --force", r.Lease)
	}
	left, granted, err := s.Left(ctx, r)
	if err != nil {
		return err
	}
	if r.Node == "" {
		return fmt.Errorf("%s is flannel's, which renews only in the last hour, so its host may be alive; stop flanneld there first, and release it with --force", r.Lease)
	}
	total := time.Duration(granted) * time.Second
	age := total - time.Duration(left)*time.Second
	if age <= 2*etcd.Renewal(total) { // it may have missed one
		return fmt.Errorf("%s was renewed %s ago, so its host is alive; stop tulled there and try again after %s, or release it with --force",
			r.Lease, age, 2*etcd.Renewal(total))
	}
	return nil
}
