package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/subnet/etcd"
)

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
