package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"tulle/internal/doctor"
	"tulle/internal/lab"
	"tulle/internal/status"
	"tulle/internal/table"
	"tulle/internal/trace"
)

// commands are all that an operator may call.
func commands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			all = append(all, commands(sub)...)
		}
	}
	return all
}

// call runs tullectl with arguments and returns what it printed.
func call(args ...string) (string, error) {
	var out bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(io.Discard)
	err := c.Execute()
	return out.String(), err
}

// TestEveryCommandHelps: with --help each command says what it does, gives an
// example of itself, and fits a terminal.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	all := commands(root())
	if len(all) < 15 {
		t.Fatalf("only %d commands", len(all))
	}
	for _, c := range all {
		path := strings.Fields(c.CommandPath())
		text, err := call(append(path[1:], "--help")...)
		if err != nil {
			t.Errorf("%s --help: %v", c.CommandPath(), err)
			continue
		}
		_, examples, _ := strings.Cut(text, "\nExamples:\n")
		if c.HasParent() && !strings.HasPrefix(strings.TrimSpace(examples), c.CommandPath()) {
			t.Errorf("%s --help gives no example that begins with %q:\n%s", c.CommandPath(), c.CommandPath(), text)
		}
		if c.Short == "" || c.Short != strings.TrimRight(c.Short, ".") {
			t.Errorf("%s says of itself %q, want a sentence without a full stop", c.CommandPath(), c.Short)
		}
		for line := range strings.Lines(text) {
			if n := len(strings.TrimRight(line, "\n")); n > table.Width && !strings.Contains(line, c.CommandPath()) {
				t.Errorf("%s --help: a line of %d characters, want %d at most: %s", c.CommandPath(), n, table.Width, line)
			}
		}
	}
}

// TestEveryCommandTellsJSON: whatever prints something prints it as JSON too.
func TestEveryCommandTellsJSON(t *testing.T) {
	t.Parallel()
	without := []string{
		"tullectl", "tullectl lease", "tullectl cni", "tullectl lab", // they print their help
		"tullectl lab exec", // it prints what the command prints
	}
	for _, c := range commands(root()) {
		if has := c.Flags().Lookup("json") != nil; has == slices.Contains(without, c.CommandPath()) {
			t.Errorf("%s has --json: %t", c.CommandPath(), has)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ call, want string }{
		{"stauts", "did you mean status?"},
		{"pers", "did you mean peers?"},
		{"doktor", "did you mean doctor?"},
		{"lease lst", "did you mean list?"},
		{"lab upp", "did you mean up?"},
		{"network gte", "did you mean get?"},
		{"nonsense", "see tullectl --help"},
		{"status --jsn", "did you mean --json?"},
		{"network set --newtork 10.0.0.0/8", "did you mean --network?"},
		{"status --nonsense", "see tullectl status --help"},
		{"status --rows=perhaps", "see tullectl status --help"},
		{"network set --network 10.0.0.0/33", "10.0.0.0/33"},
		{"network set --network 10.0.0.0/16 --subnet-len 8", "SubnetLen"},
		{"lab run --firewall ipfw", "ipfw"},
		{"lab up --backend host-gw --families 6 --underlay 4", "host-gw"},
		{"lab up --nodes 0", "a lab has 1 to"},
		{"lab up --nodes many", `--nodes: "many": invalid syntax; see tullectl lab up --help`},
		{"lab up --name a/b", "a/b"},
	} {
		t.Run(tt.call, func(t *testing.T) {
			t.Parallel()
			_, err := call(strings.Fields(tt.call)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("tullectl %s: %v, want %q in it", tt.call, err, tt.want)
			}
			if got := code(err); got != exitUsage {
				t.Errorf("tullectl %s: exit status %d, want %d", tt.call, got, exitUsage)
			}
		})
	}
}

var fieldRow = regexp.MustCompile("(?m)^\\| `([A-Za-z.\\[\\]]+)` \\|")

// TestFieldsAreDocumented: Documentation/tullectl.md tells every field that
// --json prints, and none that is not there.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Documentation/tullectl.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		heading string
		value   any
	}{
		{"status", status.Node{}},
		{"peers", status.Peer{}},
		{"leases", leaseRow{}},
		{"doctor", doctor.Finding{}},
		{"trace", trace.Trace{}},
		{"lab run, lab prove", proofRow{}},
		{"lab status, lab up", lab.Report{}},
		{"lab list, lab down", labRow{}},
		{"cni install", installedRow{}},
		{"mesh", status.Mesh{}},
	} {
		_, section, found := strings.Cut(string(text), "\n### Fields of "+tt.heading+"\n")
		if !found {
			t.Errorf("no section %q", "### Fields of "+tt.heading)
			continue
		}
		if i := strings.Index(section, "\n#"); i >= 0 {
			section = section[:i]
		}
		var have []string
		for _, m := range fieldRow.FindAllStringSubmatch(section, -1) {
			have = append(have, m[1])
		}
		want := fields(reflect.TypeOf(tt.value), "")
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			t.Errorf("%s: documented are\n%s\nwant\n%s", tt.heading, strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
	}
}

// fields are the names of a type's fields in JSON, with those of what is inside.
func fields(t reflect.Type, before string) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, fields(f.Type, before)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" {
			name = f.Name // as encoding/json does
		}
		name = before + name
		inner := f.Type
		for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
			if inner.Kind() == reflect.Slice {
				name += "[]"
			}
			inner = inner.Elem()
		}
		names = append(names, name)
		if _, text := reflect.New(inner).Interface().(json.Unmarshaler); inner.Kind() == reflect.Struct && !text && inner.PkgPath() != "time" && inner.PkgPath() != "net/netip" {
			names = append(names, fields(inner, name+".")...)
		}
	}
	return names
}
