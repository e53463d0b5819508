package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

func networkCommand() *cobra.Command {
	cmd := networkGetCommand()
	cmd.Use, cmd.Short = "network", "show or set the network that all hosts share"
	cmd.Long = "network prints the configuration that all hosts share, as network get does."
	cmd.Example = "  tullectl network\n  tullectl network set --network 10.244.0.0/16"
	return group(cmd, networkGetCommand(), networkSetCommand())
}

func networkGetCommand() *cobra.Command {
	var c etcd.Config
	cmd := &cobra.Command{
		Use:     "get",
		Short:   "print the network configuration as JSON, with all defaults",
		Example: "  tullectl network get",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				snapshot, err := s.Read(ctx)
				if err != nil {
					return err
				}
				if snapshot.NetworkErr != nil {
					return snapshot.NetworkErr
				}
				return printNetwork(cmd.OutOrStdout(), snapshot.Network)
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	jsonFlag(cmd.Flags(), new(bool)) // it is JSON in any case
	return cmd
}

func networkSetCommand() *cobra.Command {
	var c etcd.Config
	var f networkFlags
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:   "set",
		Short: "write the network configuration that all hosts share",
		Long: `set checks a network configuration, tells all that is wrong with it, and writes it
to etcd. It refuses one that existing leases do not fit in.`,
		Example: `  tullectl network set --network 10.244.0.0/16
  tullectl network set --network 10.244.0.0/16 --subnet-len 25 --vni 7
  tullectl network set --file network.json --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := f.text(cmd)
			if err != nil {
				return usageError{err}
			}
			n, err := subnet.ParseNetwork(text)
			if err != nil {
				return usageError{fmt.Errorf("the configuration is not valid and was not written:\n%w", err)}
			}
			if dryRun {
				return printNetwork(cmd.OutOrStdout(), n)
			}
			return withStore(cmd, &c, func(ctx context.Context, s *etcd.Store) error {
				before, err := s.Read(ctx)
				if err != nil {
					return err
				}
				if err := leasesFit(n, before.Leases); err != nil && !force {
					return err
				}
				if err := s.PutNetwork(ctx, n); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "written to %s\n", s.ConfigKey())
				if before.NetworkErr == nil && before.Network != n && before.Leases.Len() > 0 {
					fmt.Fprintf(cmd.ErrOrStderr(), "%d nodes follow it by themselves, or say in their log why not\n", before.Leases.Len())
				}
				return printNetwork(cmd.OutOrStdout(), n)
			})
		},
	}
	flags.Etcd(cmd.Flags(), &c)
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "write it even if existing leases do not fit")
	jsonFlag(cmd.Flags(), new(bool)) // what it prints is JSON in any case
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check and print it, and write nothing")
	return cmd
}

// leasesFit returns an error that names the leases outside of a network.
func leasesFit(n subnet.Network, leases subnet.Leases) error {
	var outside []error
	for r := range leases.All() {
		if !n.Contains(n.Restrict(r.Lease)) {
			outside = append(outside, fmt.Errorf("  %s", r.Lease))
		}
	}
	if len(outside) == 0 {
		return nil
	}
	return fmt.Errorf("these leases are outside of that network, and their nodes would lose it; nothing was written; write it with --force:\n%w", errors.Join(outside...))
}

// patience is how long a command waits for etcd.
const patience = 10 * time.Second

// withStore connects to etcd for the time of do.
func withStore(cmd *cobra.Command, c *etcd.Config, do func(context.Context, *etcd.Store) error) error {
	if err := flags.FromEnv(cmd.Flags(), "etcd-"); err != nil {
		return usageError{err}
	}
	if err := c.Check(); err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	var last lastWarning
	s, err := etcd.Open(ctx, *c, last.logger())
	if err == nil {
		defer s.Close()
		err = do(ctx, s)
	}
	if errors.Is(err, context.DeadlineExceeded) && last.text != "" {
		return errors.New(last.text)
	}
	return err
}

func printNetwork(w io.Writer, n subnet.Network) error {
	var indented json.RawMessage = n.JSON()
	text, err := json.MarshalIndent(indented, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
