package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"tulle/internal/flags"
	"tulle/internal/table"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

func leaseListCommand(use, path string) *cobra.Command {
	var c etcd.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:     use,
		Short:   "list all leases: whose they are, and when they run out",
		Example: "  " + path + "\n  " + path + " --json | jq '.[] | .node'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				snapshot, err := s.Read(ctx)
				if err != nil {
					return err
				}
				rows, err := rowsOf(ctx, s, snapshot.Leases)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), rows)
				}
				return writeLeases(cmd.OutOrStdout(), rows, snapshot.Faults)
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// atOnce is how many leases etcd is asked about at the same time: there may be
// thousands, and each is a question of its own.
const atOnce = 32

// rowsOf is all leases, and when they run out.
func rowsOf(ctx context.Context, s *etcd.Store, leases subnet.Leases) ([]leaseRow, error) {
	rows := make([]leaseRow, leases.Len())
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	i := 0
	for r := range leases.All() {
		row := &rows[i]
		i++
		g.Go(func() (err error) {
			*row = rowOf(r)
			row.Left, row.Granted, err = s.Left(ctx, r)
			return err
		})
	}
	return rows, g.Wait()
}

func writeLeases(w io.Writer, rows []leaseRow, faults map[string]error) error {
	t := table.Table{Head: []string{"SUBNET", "NODE", "ADDRESS", "RENEWED", "RUNS OUT IN"}}
	for _, row := range rows {
		renewed, end := "-", "reserved"
		switch {
		case row.Awaited:
			end = "reserved, not there yet"
		case !row.Reserved:
			end = (time.Duration(row.Left) * time.Second).String()
			renewed = (time.Duration(row.Granted-row.Left) * time.Second).String() + " ago"
		}
		t.Add(strings.Join(row.Subnets, "\n"), orDash(row.Node), strings.ReplaceAll(row.Address, " and ", "\n"), renewed, end)
	}
	if err := t.Write(w, table.Colour(w)); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(faults)) {
		fmt.Fprintln(w, strings.Join(table.Wrap("not a lease: "+key+": "+faults[key].Error(), table.Width), "\n"))
	}
	return nil
}
