package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is where commands run and sockets are opened: a host, or a pod. A pod
// has its host's files and processes and a network of its own.
type Place struct {
	Name string
	host *Host
	net  string // path of the network namespace in the host; empty: the host's own
}

// Do runs f inside the place: its files, host name and network, and what f
// starts is in its process table. f must not hand work to other goroutines; a
// socket that it opens may be used anywhere.
func (p *Place) Do(f func() error) error { return p.inside(hostNamespaces, f) }

// Net runs f in the network of the place and among the files of the machine.
func (p *Place) Net(f func() error) error { return p.inside([]string{nsNet}, f) }

func (p *Place) inside(kinds []string, f func() error) error {
	paths := make([]string, len(kinds))
	for i, kind := range kinds {
		paths[i] = fmt.Sprintf(nsProc, p.host.process.Pid, kind)
		if kind == nsNet && p.net != "" {
			paths[i] = p.host.Path(p.net)
		}
	}
	if !p.host.process.alive() {
		return fmt.Errorf("enter %s: its process %d is gone", p.Name, p.host.process.Pid)
	}
	if err := inside(paths, f); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

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

// Dial connects from inside the place. The address holds no name, for the
// look-up would happen elsewhere.
func (p *Place) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := p.Net(func() (err error) {
		d := net.Dialer{Timeout: answerTimeout}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens inside the place.
func (p *Place) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	err := p.Net(func() (err error) {
		var c net.ListenConfig
		l, err = c.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Client makes HTTP requests from inside the place, each on a connection of its own.
func (p *Place) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true}}
}

const (
	hostDir = "/run/lab"       // the host's directory of the lab, as the host sees it
	hostBin = hostDir + "/bin" // tulle's programs, as the host sees them
	podNets = "/run/netns"     // where ip-netns(8) looks for the pods' namespaces
	sbin    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	path    = hostBin + ":" + sbin
)

// environment is that of every process in a lab. Little of the caller's is let
// through: TULLED_ variables or a proxy would change what is being tried.
func environment(host string) []string {
	env := []string{"PATH=" + path, "HOSTNAME=" + host}
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
	dirs := filepath.SplitList(path)
	i := slices.IndexFunc(dirs, func(dir string) bool {
		return unix.Access(filepath.Join(dir, name), unix.X_OK) == nil
	})
	if i < 0 {
		return "", &exec.Error{Name: name, Err: errors.New("no such program in " + path)}
	}
	return filepath.Join(dirs[i], name), nil
}
