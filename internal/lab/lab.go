package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what to bring up.
type Options struct {
	Name     string       // of the lab; empty: one that no other lab has
	Nodes    int          // hosts that run tulled
	Pods     int          // on each node
	Bin      string       // folder with tulled, tulle and tullectl; empty: the running program's
	Progress func(string) // is told each step; may be nil
}

// Lab is a set of hosts and pods.
type Lab struct {
	Name  string
	Bin   string
	Hosts []*Host // underlay, nodes, outside
	Pods  []*Pod  // by host

	dir      string
	progress func(string)

	mu sync.Mutex // guards the state file, and Pods while Up runs
}

var (
	dialer net.Dialer
	past   = time.Unix(1, 0)
)

// atOnce is how many hosts or pods are brought up side by side.
const atOnce = 4

func newLab(name string) *Lab {
	return &Lab{Name: name, dir: filepath.Join(Dir, name), progress: func(string) {}}
}

func (l *Lab) newHost(name string, role Role, addr netip.Addr) *Host {
	h := &Host{Place: Place{Name: name}, Role: role, Addr: addr, dir: filepath.Join(l.dir, name)}
	h.host = h
	return h
}

// Up brings a lab up. It lives as long as this process unless Detach is called.
// When Up fails, or ctx ends before it is done, it leaves nothing.
func Up(ctx context.Context, o Options) (*Lab, error) {
	l, err := claim(o)
	if err != nil {
		return nil, err
	}
	if err := l.bringUp(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // and not what it made fail
		}
		if _, downErr := l.Down(context.WithoutCancel(ctx)); downErr != nil {
			err = errors.Join(err, downErr)
		}
		return nil, err
	}
	return l, nil
}

// claim checks the options and makes the lab's directory, which nobody else can
// make then.
func claim(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root, for it makes namespaces of the kernel; run this with sudo")
	}
	if o.Nodes < 1 || o.Nodes > mostNodes {
		return nil, fmt.Errorf("%d nodes: a lab has 1 to %d", o.Nodes, mostNodes)
	}
	if o.Pods < 0 || o.Pods > mostPods {
		return nil, fmt.Errorf("%d pods on each node: a lab has 0 to %d", o.Pods, mostPods)
	}
	if o.Name != "" && !nameForm.MatchString(o.Name) {
		return nil, badName(o.Name)
	}
	bin, err := findBin(o.Bin)
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Name)
	if err != nil {
		return nil, err
	}
	l := newLab(filepath.Base(dir))
	l.Bin = bin
	if o.Progress != nil {
		l.progress = o.Progress
	}
	return l, nil
}

// makeDir makes the directory of a lab. It tries again when Down of another lab
// removes the directory of labs under its feet.
func makeDir(name string) (string, error) {
	for {
		if err := os.MkdirAll(Dir, 0o700); err != nil {
			return "", err
		}
		dir, err := filepath.Join(Dir, name), error(nil)
		if name == "" {
			dir, err = os.MkdirTemp(Dir, "run-")
		} else {
			err = os.Mkdir(dir, 0o700)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, fs.ErrExist):
			return "", fmt.Errorf("lab %s exists; take it down with tullectl lab down --name %s, or choose another --name", name, name)
		}
		return dir, err
	}
}

// findBin checks that the programs are there: a lab that comes half up helps nobody.
func findBin(dir string) (string, error) {
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(self)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	var missing []error
	for _, name := range []string{"tulled", "tulle", "tullectl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			missing = append(missing, fmt.Errorf("no %s beside tullectl in %s; run make build, or name the folder with --bin", name, dir))
		}
	}
	return dir, errors.Join(missing...)
}

func (l *Lab) bringUp(ctx context.Context, o Options) error {
	l.progress(fmt.Sprintf("hosts: underlay, node1 to node%d, outside", o.Nodes))
	l.Hosts = append(l.Hosts, l.newHost("underlay", RoleUnderlay, underlayRouter.Addr()))
	for i := 1; i <= o.Nodes; i++ {
		l.Hosts = append(l.Hosts, l.newHost(fmt.Sprintf("node%d", i), RoleNode, nodeAddr(i)))
	}
	l.Hosts = append(l.Hosts, l.newHost("outside", RoleOutside, outsideAddr))
	// One after the other: each pid is in the state file before the next exists.
	for _, h := range l.Hosts {
		err := startHost(ctx, h, l.Bin)
		if err := errors.Join(err, l.save()); err != nil {
			return err
		}
	}

	l.progress(fmt.Sprintf("underlay: %s for nodes, %s for the outside", underlayRouter.Masked(), outsideRouter.Masked()))
	underlay := l.Hosts[0]
	if err := setUpUnderlay(underlay); err != nil {
		return err
	}
	for _, h := range l.Hosts[1:] {
		bridge, router := underlayBridge, underlayRouter
		if h.Role == RoleOutside {
			bridge, router = outsideBridge, outsideRouter
		}
		if err := plug(underlay, h, bridge, router); err != nil {
			return err
		}
	}
	if err := startServe(ctx, l.Host("outside"), nil); err != nil {
		return err
	}

	l.progress("etcd: " + EtcdURL)
	if err := l.StartEtcd(ctx); err != nil {
		return err
	}
	l.progress("network: tullectl network set --network " + podNetwork.String())
	if err := l.SetNetwork(ctx, "--network", podNetwork.String()); err != nil {
		return err
	}
	l.progress(fmt.Sprintf("tulled: on %d nodes, until each is ready", o.Nodes))
	if err := each(l.Nodes(), func(h *Host) error { return h.StartDaemon(ctx) }); err != nil {
		return err
	}
	if err := each(l.Nodes(), func(h *Host) error { return h.WaitReady(ctx) }); err != nil {
		return err
	}
	if o.Pods > 0 {
		l.progress(fmt.Sprintf("pods: %d on each node, attached by the plugin tulle", o.Pods))
	}
	return each(l.Nodes(), func(h *Host) error {
		for i := 1; i <= o.Pods; i++ {
			if _, err := l.AddPod(ctx, h, fmt.Sprintf("pod%s-%d", h.Name[len("node"):], i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// each calls f for a few hosts at a time and joins what went wrong.
func each(hosts []*Host, f func(*Host) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	errs := make([]error, len(hosts))
	for i, h := range hosts {
		g.Go(func() error {
			errs[i] = f(h)
			return nil
		})
	}
	return errors.Join(g.Wait(), errors.Join(errs...))
}

// Detach lets the lab outlive this process: from then on only Down ends it.
func (l *Lab) Detach() error {
	var errs []error
	for _, h := range l.Hosts {
		errs = append(errs, h.detach())
	}
	return errors.Join(errs...)
}

// Down ends all hosts and removes the lab's directory. It returns how many
// hosts it ended, and may be called for whatever is left of a lab, and twice.
func (l *Lab) Down(ctx context.Context) (int, error) {
	var mu sync.Mutex
	ended := 0
	err := each(l.Hosts, func(h *Host) error {
		lived, err := h.end(ctx)
		if lived {
			mu.Lock()
			defer mu.Unlock()
			ended++
		}
		return err
	})
	if err != nil {
		return ended, fmt.Errorf("take lab %s down: %w", l.Name, err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return ended, err
	}
	// The last lab takes the directory of labs along; others keep it.
	_ = os.Remove(Dir)
	return ended, nil
}

// Host returns the host of that name, or nil.
func (l *Lab) Host(name string) *Host {
	i := slices.IndexFunc(l.Hosts, func(h *Host) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return l.Hosts[i]
}

// Nodes are the hosts that run tulled.
func (l *Lab) Nodes() []*Host {
	return slices.DeleteFunc(slices.Clone(l.Hosts), func(h *Host) bool { return h.Role != RoleNode })
}

// Place returns the host or pod of that name. The error names all there are.
func (l *Lab) Place(name string) (*Place, error) {
	var names []string
	for _, h := range l.Hosts {
		if h.Name == name {
			return &h.Place, nil
		}
		names = append(names, h.Name)
	}
	for _, p := range l.Pods {
		if p.Name == name {
			return &p.Place, nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("lab %s has no host or pod %q; it has %s", l.Name, name, names)
}
