package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tulle/internal/lab"
)

func labExecCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:     "exec HOST|POD -- COMMAND...",
		Short:   "run a command on a host or in a pod of a lab",
		Long:    "Runs a command on a host or in a pod of a lab, with this terminal. Its exit status is that of the command.",
		Example: "  tullectl lab exec node1 -- bridge fdb show dev tulle.1\n  tullectl lab exec pod1-1 -- sh",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := lab.Load(name)
			if err != nil {
				return err
			}
			place, err := l.Place(args[0])
			if err != nil {
				return err
			}
			command := args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usageError{fmt.Errorf("no command to run in %s; give one, as in: tullectl lab exec %s -- ip address", place.Name, place.Name)}
			}
			return labExec(place, command)
		},
	}
	c.Flags().SetInterspersed(false) // what follows the place is the command's
	nameFlag(c, &name)
	return c
}

func labExec(place *lab.Place, args []string) error {
	// Where the terminal sends Ctrl-C to the command too, the command decides.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(signals)

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	terminal, ours := openTerminal()
	if ours {
		terminal.lend(cmd)
	}
	if err := place.Start(cmd); err != nil {
		const notFound = 127 // as in sh(1)
		return exitError{notFound, err}
	}
	if ours {
		if err := terminal.wait(cmd.Process.Pid); err != nil {
			return fmt.Errorf("%s: terminal: %w", place.Name, err)
		}
	}
	return exitStatus(cmd.Wait())
}

// exitStatus makes the end of a command that of tullectl.
func exitStatus(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitError{status: 128 + int(status.Signal())}
	}
	return exitError{status: exit.ExitCode()}
}
