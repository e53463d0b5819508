package main

import (
	"errors"

	"github.com/spf13/cobra"

	"tulle/internal/status"
	"tulle/internal/table"
)

func peersCommand() *cobra.Command {
	var asJSON bool
	var here tulled
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "tell which nodes this one reaches, and what is missing to others",
		Long: `peers asks this host's tulled for the other nodes: their subnets, the ends of the
tunnels to them, and whether the kernel has all rows for each. The exit status is 1
if a peer is left out or lacks a row.`,
		Example: "  tullectl peers\n  tullectl peers --json | jq '.[] | select(.programmed | not)'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var n status.Node
			err := here.ask(cmd, statePath, stateTime, &n)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, n.Peers)
			} else {
				err = n.WritePeers(out, table.Colour(out))
			}
			return errors.Join(err, peerHealth(n))
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	here.register(cmd.Flags())
	return cmd
}

// peerHealth makes the exit status say whether all peers are reached.
func peerHealth(n status.Node) error {
	if n.KernelErr != "" {
		return exitError{status: exitFailed, err: errors.New("the kernel could not be read: " + n.KernelErr)}
	}
	for _, p := range n.Peers {
		if !p.Programmed && !p.Awaited {
			return exitError{status: exitFailed}
		}
	}
	return nil
}
