package house

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tulle/internal/lab"
	"tulle/internal/root"
)

// A block of a document that begins with ```console run-in-lab is a session on
// hosts and in pods of a lab of three nodes with two pods each:
//
//	node1# ip route show 10.244.32.0/24
//	10.244.32.0/24 nhid ... via 10.244.32.0 dev tulle.1 proto 116 onlink
//
// The shell runs what stands behind the prompt, and the lines that follow one
// with a backslash at its end. The command must succeed and
// print the lines that follow: "..." stands for any text in a line, and alone in
// a line for any lines. Blanks count as one. What is not yet as written is
// tried again for a while, so only commands that may be repeated have output.
//
// With run-in-bare-lab there is nothing on the hosts but their network: no etcd,
// no daemon, no pods. Each host has its own /etc. There,
//
//   - scp copies files between hosts, which have no sshd,
//   - systemctl is a stand-in that starts a service and waits until it is ready.
//
// Behind run-in-lab may stand families=46 and underlay=46, as in the flags of
// tullectl lab up.
//
// A document has sessions of one kind.
var marker = regexp.MustCompile("(?m)^```console run-in-(bare-)?lab(?: families=([46]+))?(?: underlay=([46]+))?\n")

// kind is the lab that a document wants.
type kind struct {
	bare               bool
	families, underlay string // empty: the lab's default
}

func (k kind) options(t *testing.T) lab.Options {
	t.Helper()
	if k.bare {
		return bare
	}
	o := lab.Options{Nodes: 3, Pods: 2}
	for set, text := range map[*lab.Families]string{&o.Families: k.families, &o.Underlay: k.underlay} {
		if text == "" {
			continue
		}
		if err := set.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// step is a command of a session, and what it should print.
type step struct {
	place, command string
	want           []string
}

var prompt = regexp.MustCompile(`^([a-z0-9-]+)# (.+)$`)

// sessions returns the steps of all marked blocks of a document, in order, and
// in which kind of lab.
func sessions(t *testing.T, name, text string) (steps []step, k kind) {
	t.Helper()
	words := marker.FindAllStringSubmatch(text, -1)
	for n, at := range marker.FindAllStringIndex(text, -1) {
		this := kind{bare: words[n][1] != "", families: words[n][2], underlay: words[n][3]}
		if n > 0 && this != k {
			t.Fatalf("%s: block %d is of another kind than those before", name, n+1)
		}
		k = this
		body, _, closed := strings.Cut(text[at[1]:], "\n```")
		if !closed {
			t.Fatalf("%s: block %d does not end", name, n+1)
		}
		begun := false
		for line := range strings.Lines(body) {
			line = strings.TrimSuffix(line, "\n")
			if m := prompt.FindStringSubmatch(line); m != nil {
				steps = append(steps, step{place: m[1], command: m[2]})
				begun = true
			} else if last := len(steps) - 1; begun && len(steps[last].want) == 0 && strings.HasSuffix(steps[last].command, "\\") {
				steps[last].command += "\n" + line
			} else if !begun {
				t.Fatalf("%s: block %d does not begin with a prompt such as node1#", name, n+1)
			} else {
				last := &steps[len(steps)-1]
				last.want = append(last.want, line)
			}
		}
	}
	return steps, k
}

// pattern is what the output of a step must match.
func (s step) pattern() *regexp.Regexp {
	var b strings.Builder
	for _, line := range s.want {
		if strings.TrimSpace(line) == "..." {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		parts := strings.Split(squeeze(line), "...")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		b.WriteString(strings.Join(parts, ".*") + `\n`)
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

func (s step) matches(output string) bool {
	var b strings.Builder
	for line := range strings.Lines(output) {
		b.WriteString(squeeze(line) + "\n")
	}
	return s.pattern().MatchString(b.String())
}

func squeeze(line string) string { return strings.Join(strings.Fields(line), " ") }

// patience is how long a step is tried again. The longest that a document tells
// of is the periodic look of the reconciler.
const patience = 45 * time.Second

func (s step) run(ctx context.Context, l *lab.Lab) error {
	place, err := l.Place(s.place)
	if err != nil {
		return err
	}
	if words := strings.Fields(s.command); words[0] == "scp" {
		return scp(l, l.Host(s.place), words[1:])
	}
	for deadline := time.Now().Add(patience); ; {
		output, err := place.Exec(ctx, "sh", "-c", s.command)
		if err == nil && (len(s.want) == 0 || s.matches(output)) {
			return nil
		}
		if len(s.want) == 0 || time.Now().After(deadline) {
			return fmt.Errorf("%s# %s\nprinted:\n%s(%v)\nwant:\n%s", s.place, s.command, output, err, strings.Join(s.want, "\n"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestDocumentedSessions runs the sessions of each document in a lab of its own.
func TestDocumentedSessions(t *testing.T) {
	root.Require(t)
	found := false
	for _, name := range files(t, ".md") {
		steps, k := sessions(t, name, read(t, name))
		if len(steps) == 0 {
			continue
		}
		found = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := up(t, k.options(t))
			if k.bare {
				install(t, l)
			}
			for _, s := range steps {
				if err := s.run(t.Context(), l); err != nil {
					t.Fatal(err) // what follows builds on it
				}
			}
		})
	}
	if !found {
		t.Errorf("no document has a block that begins as %s", marker)
	}
}

func up(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Bin = bin(t)
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestStepMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want, output string
		matches            bool
	}{
		{"the same text", "a b\nc", "a b\nc\n", true},
		{"columns of another width", "a  b", "a    b\n", true},
		{"a line too many", "a", "a\nb\n", false},
		{"a line too few", "a\nb", "a\n", false},
		{"any text inside a line", "a ... d", "a b c d\n", true},
		{"any text is not more than a line", "a ... d", "a b\nc d\n", false},
		{"any lines, of which there are some", "a\n...\nd", "a\nb\nc\nd\n", true},
		{"any lines, of which there are none", "a\n...\nd", "a\nd\n", true},
		{"characters that mean something in patterns", "[a.*]", "[a.*]\n", true},
		{"a dot is a dot", "a.b", "axb\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := step{want: strings.Split(tt.want, "\n")}
			if got := s.matches(tt.output); got != tt.matches {
				t.Errorf("matches(%q) of %q = %t, want %t", tt.output, tt.want, got, tt.matches)
			}
		})
	}
}

var (
	metricCell = regexp.MustCompile("^`tulle_[a-z_]+`$")
	metricType = regexp.MustCompile(`(?m)^# TYPE (tulle_[a-z_]+) `)
)

// TestEveryMetricIsDocumented compares with what a daemon in a lab tells.
func TestEveryMetricIsDocumented(t *testing.T) {
	root.Require(t)
	t.Parallel()
	text, err := up(t, lab.Options{Nodes: 1}).Nodes()[0].Exec(t.Context(), "curl", "-sS", "http://127.0.0.1:8471/metrics")
	if err != nil {
		t.Fatal(err)
	}
	want, have := map[string]bool{}, map[string]bool{}
	for _, m := range metricType.FindAllStringSubmatch(text, -1) {
		want[m[1]] = true
	}
	for _, row := range table(read(t, "Documentation/running.md"), metricCell) {
		have[strings.Trim(row[0], "`")] = true
	}
	if !maps.Equal(have, want) {
		t.Errorf("metrics in Documentation/running.md:\n%s\nwant:\n%s", slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
}
