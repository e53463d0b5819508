package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
	"tulle/internal/table"
)

// labRow is a lab as JSON tells it.
type labRow struct {
	Name    string `json:"name"`
	Up      bool   `json:"up"`      // afterwards, of lab down
	Running int    `json:"running"` // hosts, or before lab down
	Hosts   int    `json:"hosts"`
}

func labDownCommand() *cobra.Command {
	var name string
	var all, asJSON bool
	c := &cobra.Command{
		Use:     "down",
		Short:   "take a lab down, or what is left of one",
		Example: "  tullectl lab down\n  tullectl lab down --all",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names := []string{name}
			if all {
				var err error
				if names, err = lab.List(); err != nil {
					return err
				}
			}
			var errs []error
			rows := []labRow{}
			for _, name := range names {
				row, err := labDown(c.Context(), name)
				errs = append(errs, err)
				if err == nil {
					rows = append(rows, row)
				}
			}
			errs = append(errs, printDown(c.OutOrStdout(), rows, asJSON))
			return errors.Join(errs...)
		},
	}
	nameFlag(c, &name)
	c.Flags().BoolVar(&all, "all", false, "all labs of this machine")
	jsonFlag(c.Flags(), &asJSON)
	c.MarkFlagsMutuallyExclusive("name", "all")
	return c
}

func labDown(ctx context.Context, name string) (labRow, error) {
	l, err := lab.Load(name)
	if errors.Is(err, lab.ErrNone) {
		return labRow{Name: name}, nil
	}
	if err != nil {
		return labRow{}, err
	}
	ended, err := l.Down(ctx)
	return labRow{Name: name, Running: ended, Hosts: len(l.Hosts)}, err
}

func printDown(w io.Writer, rows []labRow, asJSON bool) error {
	if asJSON {
		return printJSON(w, rows)
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "no lab is up")
	}
	for _, row := range rows {
		if row.Hosts == 0 {
			fmt.Fprintf(w, "lab %s is not up; nothing to do\n", row.Name)
			continue
		}
		fmt.Fprintf(w, "lab %s is down: %d of %d hosts were running\n", row.Name, row.Running, row.Hosts)
	}
	return nil
}

func labListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "list the labs of this machine",
		Example: "  tullectl lab list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names, err := lab.List()
			if err != nil {
				return err
			}
			var errs []error
			rows := []labRow{}
			for _, name := range names {
				l, err := lab.Load(name)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				rows = append(rows, labRow{Name: name, Up: true, Running: l.Alive(), Hosts: len(l.Hosts)})
			}
			if asJSON {
				return errors.Join(append(errs, printJSON(c.OutOrStdout(), rows))...)
			}
			var t table.Table
			for _, row := range rows {
				t.Add(row.Name, fmt.Sprintf("%d of %d hosts run", row.Running, row.Hosts))
			}
			return errors.Join(append(errs, t.Write(c.OutOrStdout(), false))...)
		},
	}
	jsonFlag(c.Flags(), &asJSON)
	return c
}
