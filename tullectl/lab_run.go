package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
	"tulle/subnet"
)

func labRunCommand() *cobra.Command {
	var o lab.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "run",
		Short: "bring a lab up, prove that its pods reach each other, take it down",
		Long: `Brings a lab up, tries every check with real traffic, prints what was seen and
takes the lab down. The exit status is 0 only if all checks held.`,
		Example: "  tullectl lab run --nodes 3 --pods 2",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Nodes < 2 || o.Pods < 2 {
				return usageError{fmt.Errorf("%d nodes with %d pods: the proof needs at least 2 of each; lab up takes fewer", o.Nodes, o.Pods)}
			}
			if o.Backend == subnet.HostGW && o.Links > 1 {
				return usageError{fmt.Errorf("--backend %s with --links %d: it leaves nodes on another link out, so the proof can't hold; lab up brings such a lab up", o.Backend, o.Links)}
			}
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			o.Progress = steps(c.ErrOrStderr())
			return untilSignal(c.Context(), func(ctx context.Context) error { return labRun(ctx, c, o, asJSON) })
		},
	}
	labFlags(c, &o)
	c.Flags().StringVar(&o.Name, "name", "", "name of the lab (default: one that no other lab has)")
	jsonFlag(c.Flags(), &asJSON)
	return c
}

func labRun(ctx context.Context, c *cobra.Command, o lab.Options, asJSON bool) error {
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	proof, proveErr := l.Prove(ctx, o.Progress)
	o.Progress("taking the lab down")
	_, downErr := l.Down(context.WithoutCancel(ctx))
	if ctx.Err() != nil && downErr == nil {
		return context.Cause(ctx)
	}
	return errors.Join(printProof(c, proof, proveErr, asJSON), downErr)
}

// proofRow is a check as JSON tells it.
type proofRow struct {
	Name    string  `json:"name"`
	Held    bool    `json:"held"`
	Seen    string  `json:"seen,omitempty"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// printProof prints what was tried. Then the table says why it failed.
func printProof(c *cobra.Command, proof lab.Proof, err error, asJSON bool) error {
	if len(proof.Rows) == 0 {
		return err
	}
	if asJSON {
		var rows []proofRow
		for _, r := range proof.Rows {
			row := proofRow{Name: r.Name, Held: r.Err == nil, Seen: r.Seen, Seconds: r.Took.Seconds()}
			if r.Err != nil {
				row.Error = r.Err.Error()
			}
			rows = append(rows, row)
		}
		if err := printJSON(c.OutOrStdout(), rows); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.OutOrStdout(), "\n%s", proof)
	}
	if err != nil {
		return exitError{status: exitFailed}
	}
	return nil
}

func labProveCommand() *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:     "prove",
		Short:   "prove that the pods of a lab that is up reach each other",
		Long:    "Tries every check of lab run in a lab that is up. The exit status is 0 only if all checks held.",
		Example: "  tullectl lab prove\n  tullectl lab prove --json | jq '.[] | select(.held | not)'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := lab.Load(name)
			if err != nil {
				return err
			}
			proof, err := l.Prove(c.Context(), steps(c.ErrOrStderr()))
			if c.Context().Err() != nil {
				return err
			}
			return printProof(c, proof, err, asJSON)
		},
	}
	nameFlag(c, &name)
	jsonFlag(c.Flags(), &asJSON)
	return c
}
