package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tulle/internal/status"
	"tulle/internal/table"
)

// meshTime is how long all nodes together may take to tell what they reach.
const meshTime = 2 * time.Minute

func meshCommand() *cobra.Command {
	var asJSON bool
	var here tulled
	cmd := &cobra.Command{
		Use:   "mesh",
		Short: "tell how all nodes reach each other through the overlay",
		Long: `mesh asks this host's tulled, and by it those of all other nodes, what they have
seen of each other: every node looks at one peer after another, about one in two seconds, with
packets that take the way of pods' packets. Where a matrix does not fit the terminal, what
is wrong is told alone. The exit status is 1 if a way is not good or a node can't be asked.`,
		Example: "  tullectl mesh\n  tullectl mesh --json | jq '.nodes[] | select(.error)'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var m status.Mesh
			err := here.ask(cmd, "/mesh", meshTime, &m)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, m)
			} else {
				err = m.Write(out, table.Colour(out))
			}
			if n := len(m.Faults()); n > 0 {
				err = errors.Join(err, exitError{status: exitFailed, err: fmt.Errorf("%d ways or nodes are not as they should be", n)})
			}
			return err
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	here.register(cmd.Flags())
	return cmd
}
