package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

func leaseReserveCommand() *cobra.Command {
	var c etcd.Config
	var node, address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reserve SUBNET",
		Short: "keep a subnet for one host for ever",
		Long: `reserve makes the lease of a subnet one that does not run out. Where nobody has the
subnet yet, it makes a lease for the host with that name and public address, which
finds it when its tulled starts.`,
		Example: "  tullectl lease reserve 10.244.60.0/24\n  tullectl lease reserve 10.244.61.0/24 --node web7 --address 192.0.2.7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				r, err := findLease(ctx, s, args[0])
				l := r.Lease
				switch {
				case errors.Is(err, errNoLease):
					l, err = newReservation(args[0], node, address)
				case err == nil:
					err = isOf(l, node, address)
				}
				if err != nil {
					return err
				}
				if err := s.Reserve(ctx, l); err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), rowOf(subnet.Record{Lease: l}))
				}
				fmt.Fprintf(cmd.OutOrStdout(), "reserved %s\n", l)
				return nil
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	cmd.Flags().StringVar(&node, "node", "", "`name` of the host, where nobody has the subnet yet")
	cmd.Flags().StringVar(&address, "address", "", "public `address` of the host, where nobody has the subnet yet")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// isOf returns an error if a lease is of another host than the one that was named.
func isOf(l subnet.Lease, node, address string) error {
	if (node == "" || node == l.Node) && (address == "" || slices.ContainsFunc(l.Addrs[:], func(a netip.Addr) bool { return a.String() == address })) {
		return nil
	}
	return fmt.Errorf("%s has that subnet; reserve it for that node without --node and --address, or release it first", l)
}

// newReservation is a lease for a host that has not been there yet.
func newReservation(text, node, address string) (subnet.Lease, error) {
	l := subnet.Lease{Node: node, Type: subnet.VXLAN}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return l, usageError{fmt.Errorf("%q is not a subnet such as 10.244.60.0/24", text)}
	}
	a, err := netip.ParseAddr(address)
	if err != nil || node == "" {
		return l, usageError{fmt.Errorf("nobody has %s yet; say with --node and --address for which host it is", text)}
	}
	if err := subnet.CheckNode(node); err != nil {
		return l, usageError{fmt.Errorf("--node: %w", err)}
	}
	if !subnet.IsHost(a) {
		return l, usageError{fmt.Errorf("--address: %s is not an address of one host such as 192.0.2.7", a)}
	}
	l.Subnets[subnet.FamilyOf(p.Addr())] = p
	l.Addrs[subnet.FamilyOf(a)] = a
	return l, nil
}
