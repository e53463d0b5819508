// Command tulled leases this host's pod subnet from etcd and keeps the kernel's
// tables so that pods on all hosts reach each other.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/internal/version"
)

// Exit codes, documented in Documentation/running.md.
const (
	exitFailed = 1
	exitUsage  = 2
)

// gcPercent makes the garbage collector run earlier than usual: a cluster's
// leases and rows are few megabytes, and memory of a host is its pods'.
const gcPercent = 20

// usageError is a mistake in a flag or in the environment.
type usageError struct{ error }

func main() {
	debug.SetGCPercent(gcPercent)
	// A crash ends with a signal. By itself Go would end with exitUsage, which
	// systemd takes for a reason not to start tulled again.
	debug.SetTraceback("crash")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "tulled: "+err.Error())
	if errors.As(err, &usageError{}) {
		fmt.Fprintln(os.Stderr, "tulled: see tulled --help")
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func command() *cobra.Command {
	var f flagValues
	var clean bool
	cmd := &cobra.Command{
		Use:   "tulled [flags]",
		Short: "lease a pod subnet from etcd and connect it with those of all other hosts",
		Long: `tulled leases this host's pod subnet from etcd, makes the VXLAN device, and keeps
the forwarding database, neighbours, nexthops, routes and firewall rules that
connect the pods of all hosts. It ends on SIGTERM and leaves all of that in
place: pods do not notice a restart. tulled --cleanup takes it away when tulled is
not to run on this host any more.

Each flag can also be given as an environment variable: --etcd-endpoints as
TULLED_ETCD_ENDPOINTS.`,
		Example: `  tulled --etcd-endpoints=https://192.0.2.1:2379 --etcd-cafile=/etc/tulle/etcd-ca.crt
  TULLED_IFACE=eth1 tulled
  tulled --cleanup`,
		Version:       version.String(),
		Args:          func(_ *cobra.Command, args []string) error { return noArgs(args) },
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.config(cmd.Flags())
			if err != nil {
				return usageError{err}
			}
			if clean {
				return cleanup(cmd.Context(), c, cmd.OutOrStdout())
			}
			log, err := logger(c.LogLevel, c.LogFormat)
			if err != nil {
				return usageError{err}
			}
			defer func() { _ = log.Sync() }() // a terminal can't be synced, and that is no fault
			return run(cmd.Context(), c, log)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{flags.Fault(err)} })
	cmd.Flags().SortFlags = false
	f.register(cmd.Flags())
	const name = "cleanup"
	cmd.Flags().BoolVar(&clean, name, false, "take away what a stopped tulled left on this host: devices, rows of the kernel's tables, files; then end")
	flags.OnlyArgument(cmd.Flags(), name)
	return cmd
}

func noArgs(args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}
