package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Modules that only some packages may import.
const (
	netlink    = "github.com/vishvananda/netlink"
	netns      = "github.com/vishvananda/netns"
	nftables   = "github.com/google/nftables"
	goIPTables = "github.com/coreos/go-iptables"
	clientv3   = "go.etcd.io/etcd/client/v3"
	etcdServer = "go.etcd.io/etcd/server/v3"
	zap        = "go.uber.org/zap"
	cobra      = "github.com/spf13/cobra"
	prometheus = "github.com/prometheus/client_golang"
	systemd    = "github.com/coreos/go-systemd/v22"
	cni        = "github.com/containernetworking"
)

// importers are the packages that may import a module. What measures tulle from
// outside, below internal/bench, may import what it likes.
var importers = map[string][]string{
	netlink:    {"backend/kernel", "cni-shim", "internal/lab", "internal/look"},
	netns:      {"cni-shim"},
	nftables:   {"cni-shim"},
	goIPTables: {"backend/kernel"},
	clientv3:   {"subnet/etcd"},
	etcdServer: {"internal/lab", "internal/etcdtest"},
	zap:        {"daemon", "subnet/etcd", "tullectl"},
	cobra:      {"daemon", "tullectl", "internal/manual"},
	prometheus: {"daemon"},
	systemd:    {"daemon"},
	cni:        {"cni-shim", "internal/lab"},
}

// without says what a package must not even have behind another one.
var without = map[string][]string{
	"backend":          {netlink, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"backend/vxlan":    {netlink, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"backend/hostgw":   {netlink, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"backend/firewall": {netlink, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"internal/ruleset": {netlink, nftables, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"internal/trace":   {netlink, nftables, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"internal/doctor":  {netlink, nftables, goIPTables, clientv3, zap, "os/exec", "net/http"},
	"cni-shim":         {clientv3, zap, goIPTables, cobra, "net/http", "os/exec", "tulle/backend"},
}

// pkg is what `go list -json` tells of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// packages lists those of the module, and which of all that they need is of the
// standard library.
func packages(t *testing.T) (own map[string]pkg, standard map[string]bool) {
	t.Helper()
	text, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "tulle/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	own, standard = map[string]pkg{}, map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return own, standard
		} else if err != nil {
			t.Fatal(err)
		}
		standard[p.ImportPath] = p.Standard
		if name, ok := strings.CutPrefix(p.ImportPath, "tulle/"); ok {
			own[name] = p
		}
	}
}

// of reports whether a package is the module, or is inside of it.
func of(path, module string) bool { return path == module || strings.HasPrefix(path, module+"/") }

func TestImports(t *testing.T) {
	t.Parallel()
	own, standard := packages(t)

	for name, p := range own {
		if strings.HasPrefix(name, "internal/bench/") {
			continue
		}
		for module, may := range importers {
			for _, path := range p.Imports {
				if of(path, module) && !slices.Contains(may, name) {
					t.Errorf("%s imports %s, which only %s may", name, path, may)
				}
			}
		}
	}
	for module, may := range importers {
		for _, name := range may {
			if !slices.ContainsFunc(own[name].Imports, func(path string) bool { return of(path, module) }) {
				t.Errorf("%s may import %s and does not; take it off the list", name, module)
			}
		}
	}
	for name, never := range without {
		p, ok := own[name]
		if !ok {
			t.Errorf("there is no package %s", name)
		}
		for _, path := range p.Deps {
			for _, module := range never {
				if of(path, module) {
					t.Errorf("%s has %s behind it, directly or through another package", name, path)
				}
			}
		}
	}
	for _, path := range own["subnet"].Deps {
		if !standard[path] {
			t.Errorf("subnet has %s behind it; it is for the standard library alone", path)
		}
	}
}

// TestTullectlLogsNothing: tullectl needs zap's types in one file, to learn from
// the store why a request waits, and writes no log.
func TestTullectlLogsNothing(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(top, "tullectl", "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("files of tullectl: %v, %v", paths, err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if of(imported, zap) && filepath.Base(path) != "warning.go" {
				t.Errorf("%s imports %s; only warning.go does", path, imported)
			}
		}
	}
}
