package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tulle/internal/lab"
)

func labStatusCommand() *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the hosts and pods of a lab",
		Example: "  tullectl lab status\n  tullectl lab status --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := lab.Load(name)
			if err != nil {
				return err
			}
			report := l.Report(c.Context())
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(report)
			}
			return printReport(c, report)
		},
	}
	nameFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printReport(c *cobra.Command, r lab.Report) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tADDRESS\tPID\tSTATE")
	for _, h := range r.Hosts {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", h.Name, h.Addr, h.Pid, h.State)
	}
	fmt.Fprintln(w, "\nPOD\tADDRESS\tHOST\tSTATE")
	for _, p := range r.Pods {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Name, p.Addr, p.Host, p.State)
	}
	return w.Flush()
}
