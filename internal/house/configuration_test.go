package house

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tulle/internal/flags"
	"tulle/subnet"
)

const configuration = "Documentation/configuration.md"

// table returns the cells of the rows of all tables of a text whose first cell
// matches.
func table(text string, first *regexp.Regexp) [][]string {
	var rows [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if first.MatchString(cells[0]) {
			rows = append(rows, cells)
		}
	}
	return rows
}

var (
	helpFlag    = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z0-9-]+).*$`)
	helpDefault = regexp.MustCompile(`\(default "?\[?([^"\])]*)\]?"?\)$`)
	flagCell    = regexp.MustCompile("^`--([a-z0-9-]+)`$")
	code        = regexp.MustCompile("^`([^`]*)`")
)

// noSettings are flags that ask for something else than the program's work.
var noSettings = []string{"help", "version", "cleanup"}

// flagsOf are the flags of a program and the defaults that its help tells.
func flagsOf(t *testing.T, program string, args ...string) map[string]string {
	all := map[string]string{}
	for _, m := range helpFlag.FindAllStringSubmatch(run(t, program, append(args, "--help")...), -1) {
		if slices.Contains(noSettings, m[1]) {
			continue
		}
		all[m[1]] = ""
		if d := helpDefault.FindStringSubmatch(m[0]); d != nil {
			all[m[1]] = d[1]
		}
	}
	return all
}

func TestEveryFlagIsDocumented(t *testing.T) {
	t.Parallel()
	documented := map[string]string{}
	for _, row := range table(read(t, configuration), flagCell) {
		name := flagCell.FindStringSubmatch(row[0])[1]
		if want := "`" + variable(name) + "`"; row[1] != want {
			t.Errorf("--%s: the variable is documented as %s, want %s", name, row[1], want)
		}
		documented[name] = ""
		if m := code.FindStringSubmatch(row[2]); m != nil {
			documented[name] = m[1]
		}
	}
	there := flagsOf(t, "tulled")
	for _, name := range slices.Sorted(maps.Keys(there)) {
		switch text, ok := documented[name]; {
		case !ok:
			t.Errorf("%s does not tell of --%s", configuration, name)
		case there[name] != "" && !strings.HasPrefix(there[name], "that of ") && text != there[name] && !strings.HasPrefix(there[name], "the "):
			t.Errorf("--%s: the default is documented as %q, and --help says %q", name, text, there[name])
		}
	}
	for name := range documented {
		if _, ok := there[name]; !ok {
			t.Errorf("%s tells of --%s, which tulled does not have", configuration, name)
		}
	}
}

func variable(flag string) string {
	return flags.Env + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

var variableName = regexp.MustCompile(`TULLED_[A-Z0-9_]+`)

// TestEnvironmentFile: the commented file that `make install` puts beside the
// unit has every variable, and none that is not.
func TestEnvironmentFile(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for name := range flagsOf(t, "tulled") {
		want[variable(name)] = true
	}
	have := map[string]bool{}
	const file = "dist/tulled.default"
	for _, name := range variableName.FindAllString(read(t, file), -1) {
		have[name] = true
	}
	lines := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#(TULLED_\w+)=`).FindAllStringSubmatch(read(t, file), -1) {
		if lines[m[1]] {
			t.Errorf("%s tells of %s twice", file, m[1])
		}
		lines[m[1]] = true
	}
	if !maps.Equal(have, want) {
		t.Errorf("variables in dist/tulled.default:\n%s\nwant those of tulled's flags:\n%s", slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
}

// TestVariablesExist: no document names a variable that nobody reads.
func TestVariablesExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for name := range flagsOf(t, "tulled") {
		known[variable(name)] = true
	}
	for _, file := range files(t, ".md") {
		for _, name := range variableName.FindAllString(read(t, file), -1) {
			if !known[name] {
				t.Errorf("%s names %s, which tulled does not read", file, name)
			}
		}
	}
}

var jsonBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

func TestNetworkExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	blocks := jsonBlock.FindAllStringSubmatch(read(t, configuration), -1)
	if len(blocks) == 0 {
		t.Fatalf("no example in %s", configuration)
	}
	for _, m := range blocks {
		if _, err := subnet.ParseNetwork([]byte(m[1])); err != nil {
			t.Errorf("%s: %v\n%s", configuration, err, m[1])
		}
	}
}

var fieldCell = regexp.MustCompile("^`(Backend\\.)?[A-Z][A-Za-z0-9]+`$")

func TestEveryNetworkFieldIsDocumented(t *testing.T) {
	t.Parallel()
	n, err := subnet.ParseNetwork([]byte(`{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd42::/48", "NonMasquerade": ["192.168.0.0/16"]}`))
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(n.JSON(), &whole); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for name, value := range whole {
		options, nested := value.(map[string]any)
		if !nested {
			want[name] = true
		}
		for option := range options {
			want[name+"."+option] = true
		}
	}
	have := map[string]bool{}
	for _, row := range table(read(t, configuration), fieldCell) {
		have[strings.Trim(row[0], "`")] = true
	}
	if !maps.Equal(have, want) {
		t.Errorf("fields in %s:\n%s\nwant:\n%s", configuration, slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
}
