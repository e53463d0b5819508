// Package manual makes manual pages and shell completion from the definitions of
// commands. Packages for distributions carry what it makes; the programs do not
// need it.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Write makes the page and the completions of a program below a folder, where
// they are to be below /usr/share.
func Write(cmd *cobra.Command, section int, dir string) error {
	name := cmd.Name()
	for path, write := range map[string]func(path string) error{
		fmt.Sprintf("man/man%d/%s.%d", section, name, section): func(path string) error {
			return os.WriteFile(path, []byte(Page(cmd, section)), 0o644)
		},
		"bash-completion/completions/" + name:         func(path string) error { return cmd.GenBashCompletionFileV2(path, true) },
		"zsh/vendor-completions/_" + name:             cmd.GenZshCompletionFile,
		"fish/vendor_completions.d/" + name + ".fish": func(path string) error { return cmd.GenFishCompletionFile(path, true) },
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := write(path); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// Page is the manual page of a program and all its commands, in the language of
// man(7).
func Page(cmd *cobra.Command, section int) string {
	var p page
	p.line(".TH %s %d \"\" \"tulle %s\" \"tulle\"", strings.ToUpper(cmd.Name()), section, quote(cmd.Version))
	p.heading("NAME")
	p.line("%s \\- %s", escape(cmd.Name()), escape(cmd.Short))
	p.heading("SYNOPSIS")
	all := family(cmd)
	for _, c := range all {
		if c.Runnable() {
			p.synopsis(c)
		}
	}
	p.heading("DESCRIPTION")
	p.text(cmd.Long)
	p.flags("OPTIONS", cmd.NonInheritedFlags())
	for _, c := range all[1:] {
		p.heading(strings.ToUpper(strings.TrimPrefix(c.CommandPath(), cmd.Name()+" ")))
		if c.Long != "" {
			p.text(c.Long)
		} else {
			p.text(c.Short + ".")
		}
		p.flags("", c.NonInheritedFlags())
		p.example(c)
	}
	if cmd.HasExample() {
		p.heading("EXAMPLES")
		p.example(cmd)
	}
	return p.String()
}

// family is a command and all below it that users are to know.
func family(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
			all = append(all, family(c)...)
		}
	}
	return all
}

// page is the text of a manual page in the making.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) heading(title string) { p.line(".SH %s", escape(title)) }

func (p *page) synopsis(c *cobra.Command) {
	words := strings.SplitN(c.UseLine(), " ", 2)
	p.line(".B %s", escape(words[0]))
	p.line("%s", escape(strings.Join(words[1:], " ")))
	p.line(".br")
}

// text is paragraphs, which empty lines set apart.
func (p *page) text(text string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(paragraph, "  ") {
			p.verbatim(paragraph)
			continue
		}
		p.line(".PP\n%s", escape(paragraph))
	}
}

func (p *page) verbatim(text string) { p.line(".PP\n.nf\n%s\n.fi", escape(text)) }

func (p *page) example(c *cobra.Command) {
	if c.HasExample() {
		p.verbatim(c.Example)
	}
}

func (p *page) flags(title string, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if title != "" {
			p.heading(title)
			title = ""
		}
		value, usage := pflag.UnquoteUsage(f)
		name := `\fB` + escape("--"+f.Name) + `\fR` // no flag here has a short name
		if value != "" {
			name += ` \fI` + escape(value) + `\fR`
		}
		p.line(".TP\n%s", name)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && !strings.Contains(usage, "(default") {
			usage += " (default " + f.DefValue + ")"
		}
		p.line("%s", escape(usage))
	})
}

// escape makes plain text of what roff(7) would take for its own.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// quote is text inside of quotes.
func quote(text string) string { return strings.ReplaceAll(escape(text), `"`, `\(dq`) }
