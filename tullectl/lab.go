package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tulle/internal/lab"
	"tulle/subnet"
)

const labName = "lab" // of lab up and what follows it

// exitError ends tullectl with a status. Without an error inside there is
// nothing to print.
type exitError struct {
	status int
	err    error
}

func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// ExitCode is the status for main to exit with.
func (e exitError) ExitCode() int { return e.status }

// interrupted is the status of a program that Ctrl-C ended.
const interrupted = 130

func labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "bring up hosts, etcd and pods in namespaces of this machine",
		Long: `A lab is a number of hosts in namespaces of the kernel: an underlay with a real etcd,
nodes with a real tulled and pods attached by the real plugin, and a host outside.
Nothing of this machine's network is touched. Needs root.`,
		Example: `  tullectl lab run                          bring a lab up, prove it, take it down
  tullectl lab up --nodes 4                 bring a lab up to play in it
  tullectl lab exec node1 -- ip route
  tullectl lab down`,
	}
	return group(c,
		labRunCommand(), labUpCommand(), labProveCommand(), labStatusCommand(), labExecCommand(), labDownCommand(), labListCommand(),
		labInitCommand(), labEtcdCommand(), labServeCommand(), labGetCommand())
}

// labFlags are what up and run take alike.
func labFlags(c *cobra.Command, o *lab.Options) {
	c.Flags().IntVar(&o.Nodes, "nodes", 3, "hosts that run tulled")
	c.Flags().IntVar(&o.Pods, "pods", 2, "pods on each node")
	c.Flags().Var(&o.Families, "families", "of the pods' network: 4, 6 or 46")
	c.Flags().Var(&o.Underlay, "underlay", "`families` of the hosts' addresses: 4, 6 or 46; packets between hosts travel over IPv4 where there is some")
	c.Flags().IntVar(&o.EtcdMembers, "etcd-members", 1, "servers that etcd consists of; more than one have a host each: etcd1, etcd2, ...")
	c.Flags().IntVar(&o.Links, "links", 1, "that the nodes are on, 1 or 2, with a router between them")
	c.Flags().StringVar(&o.Backend, "backend", subnet.VXLAN, "`way` from node to node: vxlan, or host-gw for plain routes")
	c.Flags().BoolVar(&o.Direct, "direct-routing", false, "with vxlan: plain routes between nodes on one link")
	c.Flags().StringVar(&o.Firewall, "firewall", "", "`tool` that tulled works with: iptables, nftables or auto (default auto: what suits the hosts)")
	c.Flags().StringVar(&o.Bin, "bin", "", "folder with tulled, tulle and tullectl (default: that of this program)")
}

// untilSignal calls f with a context that ends with Ctrl-C, or with the terminal.
func untilSignal(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	err := f(ctx)
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case err == context.Cause(ctx):
		err = errors.New("interrupted; nothing is left of the lab")
	}
	return exitError{interrupted, err}
}

// steps prints each step with the time since the first.
func steps(w io.Writer) func(string) {
	start := time.Now()
	return func(step string) {
		fmt.Fprintf(w, "%5.1fs  %s\n", time.Since(start).Seconds(), step)
	}
}
