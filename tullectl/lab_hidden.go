package main

import (
	"context"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
)

// The commands that a lab starts on its hosts and in its pods.

func labInitCommand() *cobra.Command {
	var o lab.InitOptions
	c := &cobra.Command{
		Use:    "init",
		Short:  "be pid 1 of a host of a lab",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return lab.RunInit(o) },
	}
	c.Flags().StringVar(&o.Name, "name", "", "name of the host")
	c.Flags().StringVar(&o.Dir, "dir", "", "directory of the host on the machine")
	c.Flags().StringVar(&o.Bin, "bin", "", "folder with tulle's programs on the machine")
	c.Flags().StringArrayVar(&o.Own, "own", nil, "folder of which the host has a copy of its own")
	return c
}

func labEtcdCommand() *cobra.Command {
	var o lab.EtcdOptions
	c := &cobra.Command{
		Use:    "etcd",
		Short:  "be a member of the etcd of a lab",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return untilSignal(c.Context(), func(ctx context.Context) error { return lab.RunEtcd(ctx, o) })
		},
	}
	c.Flags().StringVar(&o.Name, "name", "", "name of the member")
	c.Flags().StringVar(&o.Address, "address", "", "address of its host")
	c.Flags().StringVar(&o.Cluster, "cluster", "", "all members: NAME=URL,...")
	return c
}

func labServeCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:    "serve",
		Short:  "be the process in a pod of a lab",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return untilSignal(c.Context(), func(ctx context.Context) error { return lab.RunServe(ctx, name) })
		},
	}
	c.Flags().StringVar(&name, "name", "", "name to answer with")
	return c
}

func labGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "get URL",
		Short:  "print what an HTTP server answers",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return lab.RunGet(c.Context(), args[0], c.OutOrStdout())
		},
	}
}
