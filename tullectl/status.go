package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tulle/internal/flags"
	"tulle/internal/status"
	"tulle/internal/table"
)

func statusCommand() *cobra.Command {
	var asJSON, rows bool
	var here tulled
	cmd := &cobra.Command{
		Use:   "status",
		Short: "tell how this host's tulled is: lease, peers, kernel",
		Example: `  tullectl status
  tullectl status --rows
  tullectl status --json | jq .lease`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var n status.Node
			if err := here.ask(cmd, statePath, stateTime, &n); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return errors.Join(printJSON(out, n), health(n))
			}
			err := n.Write(out, table.Colour(out))
			if rows {
				fmt.Fprintln(out)
				err = errors.Join(err, n.WriteRows(out))
			}
			return errors.Join(err, health(n))
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.Flags().BoolVar(&rows, "rows", false, "show the kernel's rows as well: + is wanted and missing, - is there and not wanted")
	here.register(cmd.Flags())
	return cmd
}

// Where tulled tells its state, as a status.Node, and how long that may take.
const (
	statePath = "/state?format=json"
	stateTime = 30 * time.Second
)

// tulled is where this host's tulled answers.
type tulled struct{ addr string }

func (t *tulled) register(fs *pflag.FlagSet) {
	fs.StringVar(&t.addr, "status-addr", flags.StatusAddr, "`address` that tulled answers on")
}

// ask asks the tulled that a command's flags and the environment name.
func (t *tulled) ask(cmd *cobra.Command, path string, within time.Duration, into any) error {
	if err := flags.FromEnv(cmd.Flags(), "status-addr"); err != nil {
		return usageError{err}
	}
	return ask(cmd.Context(), t.addr, path, within, into)
}

// ask asks tulled for something, and reads the answer into a value.
func ask(ctx context.Context, addr, path string, within time.Duration, into any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return usageError{fmt.Errorf("--status-addr: %w", err)}
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("tulled does not run on this host, or not with --status-addr=%s; start it with `systemctl start tulled`", addr)
	}
	if err != nil {
		return fmt.Errorf("ask tulled: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("what answers on %s is not tulled: %w", addr, err)
	}
	return nil
}

// health makes the exit code say whether all is well.
func health(n status.Node) error {
	switch {
	case !n.Ready:
		return exitError{status: exitFailed, err: fmt.Errorf("not ready: %s", n.Phase)}
	case n.KernelErr != "" || len(n.Difference) > 0:
		return exitError{status: exitFailed, err: fmt.Errorf("the kernel is not as wanted; see tullectl status --rows")}
	}
	return nil
}
