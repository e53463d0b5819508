package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Start starts cmd inside the place: what cmd.Start does, and in the
// environment of the lab unless cmd has one. The program is looked for inside,
// with those of tulle first.
func (p *Place) Start(cmd *exec.Cmd) error {
	if cmd.Env == nil {
		cmd.Env = environment(p.Name)
	}
	cmd.Err = nil // of the search outside
	return p.Do(func() error {
		path, err := lookPath(cmd.Args[0])
		if err != nil {
			return err
		}
		cmd.Path = path
		return cmd.Start()
	})
}

// Exec runs a command inside the place and returns what it printed. The error
// tells its standard error output.
func (p *Place) Exec(ctx context.Context, args ...string) (string, error) {
	return p.ExecInput(ctx, "", args...)
}

// ExecInput is Exec with text on the command's standard input.
func (p *Place) ExecInput(ctx context.Context, input string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := p.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %s: %w: %s", p.Name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// programs is the PATH of every process in a lab.
const programs = hostBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is that of every process in a lab. Little of the caller's is let
// through: TULLED_ variables or a proxy would change what is being tried.
func environment(host string) []string {
	env := []string{"PATH=" + programs, "HOSTNAME=" + host}
	for _, key := range []string{"HOME", "TERM", "LANG", "GORACE", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return env
}

// lookPath is exec.LookPath with the lab's PATH instead of this process's.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	dirs := filepath.SplitList(programs)
	i := slices.IndexFunc(dirs, func(dir string) bool {
		return unix.Access(filepath.Join(dir, name), unix.X_OK) == nil
	})
	if i < 0 {
		return "", &exec.Error{Name: name, Err: errors.New("no such program in " + programs)}
	}
	return filepath.Join(dirs[i], name), nil
}
