package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
)

func labDownCommand() *cobra.Command {
	var name string
	var all bool
	c := &cobra.Command{
		Use:     "down",
		Short:   "Take a lab down, or what is left of one",
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
			if len(names) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "no lab is up")
			}
			var errs []error
			for _, name := range names {
				errs = append(errs, labDown(c.Context(), c, name))
			}
			return errors.Join(errs...)
		},
	}
	nameFlag(c, &name)
	c.Flags().BoolVar(&all, "all", false, "all labs of this machine")
	c.MarkFlagsMutuallyExclusive("name", "all")
	return c
}

func labDown(ctx context.Context, c *cobra.Command, name string) error {
	l, err := lab.Load(name)
	if errors.Is(err, lab.ErrNone) {
		fmt.Fprintf(c.OutOrStdout(), "lab %s is not up; nothing to do\n", name)
		return nil
	}
	if err != nil {
		return err
	}
	ended, err := l.Down(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "lab %s is down: %d of %d hosts were running\n", name, ended, len(l.Hosts))
	return nil
}

func labListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the labs of this machine",
		Example: "  tullectl lab list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names, err := lab.List()
			if err != nil {
				return err
			}
			var errs []error
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, name := range names {
				l, err := lab.Load(name)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(w, "%s\t%d of %d hosts run\n", name, l.Alive(), len(l.Hosts))
			}
			return errors.Join(append(errs, w.Flush())...)
		},
	}
}
