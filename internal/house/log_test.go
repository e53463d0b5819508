package house

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A call of the logger, and a message that is kept for one.
	logCall    = regexp.MustCompile(`(?:\.log|\blog)\.(?:Debug|Info|Warn|Error)\("([^"]+)"`)
	logMessage = regexp.MustCompile(`\b(?:begin|end): +"([^"]+)"`)
	logCell    = regexp.MustCompile("^`[a-z][^`]*`$")
)

// TestEveryLogMessageIsDocumented: an operator finds what the log says in the
// documentation, and nothing there that it never says.
func TestEveryLogMessageIsDocumented(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, name := range files(t, ".go") {
		if dir := path.Dir(name); dir != "daemon" && dir != "subnet/etcd" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, r := range []*regexp.Regexp{logCall, logMessage} {
			for _, m := range r.FindAllStringSubmatch(read(t, name), -1) {
				want[m[1]] = true
			}
		}
	}
	_, section, _ := strings.Cut(read(t, "Documentation/running.md"), "\n## Logs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	have := map[string]bool{}
	for _, row := range table(section, logCell) {
		have[strings.Trim(row[0], "`")] = true
	}
	for _, message := range slices.Sorted(maps.Keys(want)) {
		if !have[message] {
			t.Errorf("Documentation/running.md does not tell of the message %q", message)
		}
	}
	for _, message := range slices.Sorted(maps.Keys(have)) {
		if !want[message] {
			t.Errorf("Documentation/running.md tells of the message %q, which nobody logs", message)
		}
	}
}
