package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Lab is a set of hosts and pods.
type Lab struct {
	Name  string
	Bin   string
	Hosts []*Host // underlay, members of etcd that have hosts of their own, nodes, outside
	Pods  []*Pod  // by host

	Families Families // of the pods
	Underlay Families // of the hosts
	Firewall string   // as of --firewall of tulled; empty: its default

	dir      string
	own      []string // of Options
	backend  string   // of the network that Up makes
	direct   bool
	progress func(string)

	transferMB int64 // that a check of the proof fetches

	mu sync.Mutex // guards the state file, and Pods while Up runs
}

var (
	dialer net.Dialer
	past   = time.Unix(1, 0)
)

// atOnce is how many hosts or pods are brought up side by side.
const atOnce = 4

func newLab(name string) *Lab {
	return &Lab{Name: name, dir: filepath.Join(Dir, name), progress: func(string) {}, transferMB: transferMB}
}

func (l *Lab) newHost(name string, role Role, on link, addrs [2]netip.Addr) *Host {
	h := &Host{Place: Place{Name: name}, Role: role, Addrs: addrs, lab: l, link: on, dir: filepath.Join(l.dir, name)}
	h.host = h
	return h
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

// Alive is the number of hosts that run.
func (l *Lab) Alive() int {
	alive := 0
	for _, h := range l.Hosts {
		if h.Alive() {
			alive++
		}
	}
	return alive
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
