package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
	"tulle/internal/table"
)

func labStatusCommand() *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "show the hosts and pods of a lab",
		Example: "  tullectl lab status\n  tullectl lab status --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := lab.Load(name)
			if err != nil {
				return err
			}
			report := l.Report(c.Context())
			if asJSON {
				return printJSON(c.OutOrStdout(), report)
			}
			return printReport(c.OutOrStdout(), report)
		},
	}
	nameFlag(c, &name)
	jsonFlag(c.Flags(), &asJSON)
	return c
}

// list is what there is of each family, side by side.
func list[T fmt.Stringer](both []T) string {
	texts := make([]string, len(both))
	for i, one := range both {
		texts[i] = one.String()
	}
	return strings.Join(texts, " ")
}

func printReport(w io.Writer, r lab.Report) error {
	hosts := table.Table{Head: []string{"HOST", "ADDRESS", "PID", "STATE"}}
	for _, h := range r.Hosts {
		hosts.Add(h.Name, list(h.Addrs), strconv.Itoa(h.Pid), h.State)
	}
	pods := table.Table{Head: []string{"POD", "ADDRESS", "HOST", "STATE"}}
	for _, p := range r.Pods {
		pods.Add(p.Name, list(p.Addrs), p.Host, p.State)
	}
	if err := hosts.Write(w, table.Colour(w)); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return pods.Write(w, table.Colour(w))
}
