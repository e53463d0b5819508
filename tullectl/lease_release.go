package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/subnet/etcd"
)

func leaseReleaseCommand() *cobra.Command {
	var c etcd.Config
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "release SUBNET",
		Short: "free the subnet of a host that is gone",
		Long: `release deletes a lease, so that other hosts drop their routes to it and its subnet
can be leased again. It refuses the lease of a host that renews it, which would take
it again at once, and a reservation, unless it is told to with --force.`,
		Example: "  tullectl lease release 10.244.60.0/24",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				r, err := findLease(ctx, s, args[0])
				if err != nil {
					return err
				}
				left, granted, err := s.Left(ctx, r)
				if err != nil {
					return err
				}
				// A living host renews when a third of the time is over.
				switch alive := left > granted*2/3; {
				case force:
				case r.ID == 0:
					return fmt.Errorf("%s is a reservation; release it with --force", r.Lease)
				case alive:
					return fmt.Errorf("%s was renewed within the last third of its time, so its host may be alive; stop tulled there first, or release it with --force", r.Lease)
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
