package house

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

// Words that no file holds. They are written so that this one does not either.
var forbidden = []*regexp.Regexp{
	regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`),
	regexp.MustCompile(`\b(quay|gcr|ghcr|docker)` + `\.io\b`),
	regexp.MustCompile(`\bregistry` + `\.k8s\.io\b`),
	regexp.MustCompile(`\bproxy` + `\.golang\.org\b`),
	regexp.MustCompile(`(^|[\s"'(=` + "`" + `])/(wo` + `rk|root|home)/`),
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		n := 0
		for line := range strings.Lines(read(t, name)) {
			n++
			for _, r := range forbidden {
				if word := r.FindString(line); word != "" {
					t.Errorf("%s:%d: %q", name, n, word)
				}
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^a-z0-9_ -]`) // from a heading, to make its anchor
)

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	for _, name := range files(t) {
		for ; name != "."; name = path.Dir(name) {
			there[name] = true
		}
	}
	for _, name := range files(t, ".md") {
		for _, m := range heading.FindAllStringSubmatch(read(t, name), -1) {
			there[name+"#"+strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
	}
	for _, name := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			to := path.Join(path.Dir(name), m[1])
			if m[1] == "" {
				to = name
			}
			if !there[to] {
				t.Errorf("%s links to %s, and there is no %s", name, m[1], to)
			} else if m[2] != "" && !there[to+"#"+m[2]] {
				t.Errorf("%s links to %s#%s, and there is no such heading", name, m[1], m[2])
			}
		}
	}
}

// TestEveryPageIsLinked: who begins with the README comes to every page.
func TestEveryPageIsLinked(t *testing.T) {
	t.Parallel()
	seen, next := map[string]bool{}, []string{"README.md"}
	for len(next) > 0 {
		name := next[0]
		next = next[1:]
		if seen[name] || !strings.HasSuffix(name, ".md") {
			continue
		}
		seen[name] = true
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			next = append(next, path.Join(path.Dir(name), m[1]))
		}
	}
	for _, name := range files(t, ".md") {
		if !seen[name] {
			t.Errorf("no link leads from the README to %s", name)
		}
	}
}

var goFile = regexp.MustCompile("`([a-z0-9_/-]+/[a-z0-9_]+\\.go)`")

// TestNamedFilesExist: the documentation names files of the code, which move.
func TestNamedFilesExist(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	for _, name := range files(t, ".go") {
		there[name] = true
	}
	for _, name := range files(t, ".md") {
		for _, m := range goFile.FindAllStringSubmatch(read(t, name), -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
	}
}
