package main

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tulle/internal/table"
)

// jsonFlag adds the flag that all commands have which tell something.
func jsonFlag(fs *pflag.FlagSet, asJSON *bool) {
	fs.BoolVar(asJSON, "json", false, "tell it as JSON, with the fields of Documentation/tullectl.md")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// fitHelp makes the help of a command, and of those below it, fit a terminal.
func fitHelp(c *cobra.Command) {
	c.Long = strings.Join(table.Wrap(strings.ReplaceAll(c.Long, "\n", " "), table.Width), "\n")
	for _, sub := range c.Commands() {
		fitHelp(sub)
	}
	c.SetUsageTemplate(`Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

Use "{{.CommandPath}} [command] --help" for more of a command.{{end}}
`)
}
