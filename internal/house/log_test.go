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
	section, _, _ = strings.Cut(section, "\n### ")
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

var (
	// A field of a message, and one that is kept for messages.
	logField  = regexp.MustCompile(`\bzap\.([A-Z][A-Za-z0-9]*)\("([^"]+)"`)
	keptField = regexp.MustCompile(`\bfield: +"([^"]+)"`)
	fieldName = regexp.MustCompile("^`[a-z]+`$")
	fieldKind = map[string]string{
		"Bool": "bool", "Int": "number", "Int64": "number", "Uint64": "number", "Strings": "list", "Stringers": "list",
		"String": "text", "Stringer": "text", "ByteString": "text", "NamedError": "text", "Duration": "text", "Time": "text",
	}
)

// TestLogFields: every field of the log is documented, with one kind.
func TestLogFields(t *testing.T) {
	t.Parallel()
	want := map[string]string{"error": "text"} // that of zap.Error
	for _, name := range files(t, ".go") {
		if dir := path.Dir(name); dir != "daemon" && dir != "subnet/etcd" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text := read(t, name)
		for _, m := range logField.FindAllStringSubmatch(text, -1) {
			kind := fieldKind[m[1]]
			if kind == "" {
				t.Errorf("%s: zap.%s makes a field of no known kind", name, m[1])
			}
			if was := want[m[2]]; was != "" && was != kind {
				t.Errorf("%s: the field %q is %s, and %s elsewhere", name, m[2], kind, was)
			}
			want[m[2]] = kind
		}
		for _, m := range keptField.FindAllStringSubmatch(text, -1) {
			want[m[1]] = "text"
		}
	}
	_, section, _ := strings.Cut(read(t, "Documentation/running.md"), "\n### Fields\n")
	section, _, _ = strings.Cut(section, "\n## ")
	have := map[string]string{}
	for _, row := range table(section, fieldName) {
		have[strings.Trim(row[0], "`")] = row[1]
	}
	if !maps.Equal(have, want) {
		t.Errorf("documented fields:\n%v\nwant:\n%v", have, want)
	}
}
