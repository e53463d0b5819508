package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
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

// leaseRow is a lease as list tells it.
type leaseRow struct {
	Subnets  []string `json:"subnets"`
	Node     string   `json:"node,omitempty"`
	Address  string   `json:"address"`
	Backend  string   `json:"backend"`
	Reserved bool     `json:"reserved"`
	Left     int64    `json:"left,omitempty"` // seconds
	Granted  int64    `json:"granted,omitempty"`
}

func leaseListCommand() *cobra.Command {
	var c etcd.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "list all leases: whose they are, and when they run out",
		Example: "  tullectl lease list\n  tullectl lease list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				snapshot, err := s.Read(ctx)
				if err != nil {
					return err
				}
				rows := []leaseRow{}
				for r := range snapshot.Leases.All() {
					left, granted, err := s.Left(ctx, r)
					if err != nil {
						return err
					}
					rows = append(rows, leaseRow{subnets(r.Lease), r.Node, r.AddrText(), r.Type, r.ID == 0, left, granted})
				}
				if asJSON {
					e := json.NewEncoder(cmd.OutOrStdout())
					e.SetIndent("", "  ")
					return e.Encode(rows)
				}
				t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
				fmt.Fprintln(t, "SUBNET\tNODE\tADDRESS\tRUNS OUT IN")
				for _, row := range rows {
					end := "reserved"
					if !row.Reserved {
						end = (time.Duration(row.Left) * time.Second).String()
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", strings.Join(row.Subnets, " "), orDash(row.Node), row.Address, end)
				}
				for key, err := range snapshot.Faults {
					fmt.Fprintf(t, "%s\tnot a lease: %s\n", key, err)
				}
				return t.Flush()
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	cmd.Flags().BoolVar(&asJSON, "json", false, "tell all of it as JSON")
	return cmd
}

func leaseReserveCommand() *cobra.Command {
	var c etcd.Config
	var node, address string
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
				if errors.Is(err, errNoLease) {
					l, err = newReservation(args[0], node, address)
				}
				if err != nil {
					return err
				}
				if err := s.Reserve(ctx, l); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "reserved %s\n", l)
				return nil
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	cmd.Flags().StringVar(&node, "node", "", "`name` of the host, where nobody has the subnet yet")
	cmd.Flags().StringVar(&address, "address", "", "public `address` of the host, where nobody has the subnet yet")
	return cmd
}

func leaseReleaseCommand() *cobra.Command {
	var c etcd.Config
	var force bool
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
				fmt.Fprintf(cmd.OutOrStdout(), "released %s\n", r.Lease)
				return nil
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	cmd.Flags().BoolVar(&force, "force", false, "release it even if its host may be alive, or it is a reservation")
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
	l.Subnets[subnet.FamilyOf(p.Addr())] = p
	l.Addrs[subnet.FamilyOf(a)] = a
	return l, nil
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
