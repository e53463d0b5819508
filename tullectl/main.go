// Command tullectl is the operator's command line of tulle.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tulle/internal/version"
)

// Exit codes, documented in Documentation/tullectl.md. A command run by `lab
// exec` gives its own, and one that Ctrl-C ended gives 130.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in the call.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd, called := root(), false
	cmd.PersistentPreRun = func(*cobra.Command, []string) { called = true }
	err := cmd.ExecuteContext(ctx)
	if err != nil && !called { // no such command, flag or argument
		err = usageError{err}
	}
	os.Exit(code(err))
}

// code tells the error, if there is one, and returns the exit code for it.
func code(err error) int {
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if text := exit.Error(); text != "" {
			fmt.Fprintln(os.Stderr, "tullectl: "+text)
		}
		return exit.status
	case errors.Is(err, context.Canceled):
		return interrupted
	}
	fmt.Fprintln(os.Stderr, "tullectl: "+err.Error())
	if errors.As(err, &usageError{}) {
		return exitUsage
	}
	return exitFailed
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tullectl",
		Short: "look at tulle and configure it",
		Long: `tullectl configures the network that all hosts share, tells how this host's
tulled is, and runs whole labs of hosts on this machine.`,
		Example: `  tullectl network set --network 10.244.0.0/16
  tullectl status
  tullectl peers
  tullectl lab run`,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetFlagErrorFunc(flagFault)
	group(cmd, networkCommand(), leaseCommand(), leasesCommand(), statusCommand(), peersCommand(), meshCommand(), traceCommand(), doctorCommand(), cniCommand(), labCommand())
	fitHelp(cmd)
	return cmd
}
