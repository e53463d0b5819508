// Command cni measures the CNI plugin beside the reference plugins that flannel's
// chain ends in: bridge, host-local and portmap. Both are started as a container
// runtime starts them, with the CNI environment, into fresh network namespaces and
// by turns. It prints a table and asserts nothing. It needs root.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"
	"time"
)

const module = "github.com/containernetworking/plugins/plugins/"

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 30, "times each thing is measured")
	pods := flag.Int("pods", 200, "pods on the node that is not empty")
	tulle := flag.String("tulle", "", "binary of the plugin (built when empty)")
	flag.Parse()
	if os.Geteuid() != 0 {
		log.Fatal("needs root: it makes network namespaces")
	}
	dir, err := os.MkdirTemp("", "tulle-bench")
	if err != nil {
		log.Fatal(err)
	}
	err = measure(dir, *tulle, *rounds, *pods)
	if gone := os.RemoveAll(dir); err == nil {
		err = gone
	}
	if err != nil {
		log.Fatal(err)
	}
}

func measure(dir, tulle string, rounds, pods int) error {
	if err := build(dir, tulle); err != nil {
		return err
	}
	contenders := []*contender{
		{name: "tulle", dir: dir, plugins: []string{"tulle"}},
		{name: "reference", dir: dir, plugins: []string{"bridge", "host-local"}},
	}
	var rows []row
	add := func(r row, err error) error {
		if err == nil {
			rows = append(rows, r)
		}
		return err
	}
	err := error(nil)
	for _, c := range contenders {
		if err = c.open(); err != nil {
			return err
		}
		defer c.close()
	}
	for _, step := range []func() error{
		func() error { return oneByOne(contenders, rounds, &rows) },
		func() error { return add(atOnce(contenders, rounds)) },
		func() error { return withPort(contenders, rounds/2, &rows) },
		func() error { return add(crowded(contenders, rounds, pods)) },
		func() error { return add(floor(rounds, pods)) },
		func() error { return add(firstReply(contenders, rounds)) },
		func() error { return add(fromAnotherHost(dir, rounds)) },
		func() error { return add(sizes(contenders)) },
	} {
		if err = step(); err != nil {
			break // what was measured so far is worth seeing
		}
	}
	if printed := table(contenders, rows); err == nil {
		err = printed
	}
	return err
}

func table(contenders []*contender, rows []row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 3, ' ', 0)
	fmt.Fprint(w, "medians\t")
	for _, c := range contenders {
		fmt.Fprintf(w, "%s\t", c.name)
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t", r.what)
		for _, v := range r.values {
			fmt.Fprintf(w, "%s\t", v)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// row is a line of the table: a value for each contender.
type row struct {
	what   string
	values []string
}

// build makes stripped binaries of all that is measured.
func build(dir, tulle string) error {
	packages := map[string]string{
		"tulle": "tulle/cni-shim", "bridge": module + "main/bridge", "host-local": module + "ipam/host-local", "portmap": module + "meta/portmap",
	}
	if tulle != "" {
		delete(packages, "tulle")
		path, err := filepath.Abs(tulle)
		if err != nil {
			return err
		}
		if err := os.Symlink(path, filepath.Join(dir, "tulle")); err != nil {
			return err
		}
	}
	start := time.Now()
	for name, path := range packages {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), path)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", path, err, out)
		}
	}
	fmt.Fprintf(os.Stderr, "built %d binaries in %s\n", len(packages), time.Since(start).Round(time.Second))
	return nil
}
