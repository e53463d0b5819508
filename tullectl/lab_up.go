package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
)

func labUpCommand() *cobra.Command {
	var o lab.Options
	var asJSON bool
	c := &cobra.Command{
		Use:     "up",
		Short:   "bring a lab up that stays until lab down",
		Example: "  tullectl lab up --nodes 3 --pods 2\n  tullectl lab exec pod1-1 -- ping -c 3 10.244.60.2",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			o.Progress = steps(c.ErrOrStderr())
			return untilSignal(c.Context(), func(ctx context.Context) error { return labUp(ctx, c, o, asJSON) })
		},
	}
	labFlags(c, &o)
	nameFlag(c, &o.Name)
	jsonFlag(c.Flags(), &asJSON)
	return c
}

func labUp(ctx context.Context, c *cobra.Command, o lab.Options, asJSON bool) error {
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	if err := l.Detach(); err != nil {
		_, downErr := l.Down(context.WithoutCancel(ctx))
		return errors.Join(err, downErr)
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), l.Report(ctx))
	}
	flag := ""
	if l.Name != labName {
		flag = " --name " + l.Name
	}
	out := c.OutOrStdout()
	fmt.Fprint(out, "\nThe lab is up. Go on with\n\n")
	for _, command := range upHints(l) {
		verb, rest, _ := strings.Cut(command, " ")
		fmt.Fprintf(out, "  tullectl lab %s\n", strings.TrimSpace(verb+flag+" "+rest))
	}
	return nil
}

// upHints are commands of tullectl lab for this lab.
func upHints(l *lab.Lab) []string {
	hints := []string{"status", "prove", "exec node1 -- tullectl status", "exec node1 -- ip route", "exec node1 -- sh"}
	if n := len(l.Pods); n > 1 {
		hints = append(hints, fmt.Sprintf("exec %s -- ping -c 3 %s", l.Pods[0].Name, l.Pods[n-1].Addr()))
	}
	return append(hints, "down")
}

func nameFlag(c *cobra.Command, name *string) {
	c.Flags().StringVar(name, "name", labName, "name of the lab")
}
