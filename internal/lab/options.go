package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"tulle/backend/firewall"
	"tulle/subnet"
)

// Options say what to bring up.
type Options struct {
	Name     string       // of the lab; empty: one that no other lab has
	Nodes    int          // hosts that run tulled
	Pods     int          // on each node
	Bin      string       // folder with tulled, tulle and tullectl; empty: the running program's
	Families Families     // of the pods' network
	Underlay Families     // of the hosts' addresses
	Network  []string     // more flags of tullectl network set
	Bare     bool         // leave the hosts as they are: no etcd, no network, no tulled, no pods
	Own      []string     // folders of which each host has a copy of its own
	Links    int          // that the nodes are on, with a router between them: 1 or 2; 0 stands for 1
	Backend  string       // of the network; empty: vxlan
	Direct   bool         // plain routes between nodes on one link, with vxlan
	Firewall string       // that tulled works with, as of --firewall; empty: its default
	Progress func(string) // is told each step; may be nil

	// EtcdMembers is how many servers etcd consists of; 0 is 1. One runs on the
	// underlay host, of several each has a host of its own.
	EtcdMembers int
}

// Check returns what is wrong with the options: such a lab there can't be.
func (o Options) Check() error {
	if o.Nodes < 1 || o.Nodes > mostNodes {
		return fmt.Errorf("%d nodes: a lab has 1 to %d", o.Nodes, mostNodes)
	}
	if o.Pods < 0 || o.Pods > mostPods {
		return fmt.Errorf("%d pods on each node: a lab has 0 to %d", o.Pods, mostPods)
	}
	if o.Bare && o.Pods > 0 {
		return errors.New("a bare lab has no pods")
	}
	if o.EtcdMembers < 0 || o.EtcdMembers > mostMembers {
		return fmt.Errorf("%d members of etcd: a lab has 1 to %d", o.EtcdMembers, mostMembers)
	}
	if o.Links < 0 || o.Links > 2 || o.Links > o.Nodes {
		return fmt.Errorf("%d links for %d nodes: a lab has 1 or 2, each with a node", o.Links, o.Nodes)
	}
	if o.Name != "" && !nameForm.MatchString(o.Name) {
		return badName(o.Name)
	}
	return o.checkWay()
}

// claim makes the lab's directory, which nobody else can make then.
func claim(o Options) (*Lab, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root, for it makes namespaces of the kernel; run this with sudo")
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
	l.Bin, l.Families, l.Underlay, l.Firewall = bin, o.Families, o.Underlay, o.Firewall
	l.own = o.Own
	l.backend, l.direct = o.Backend, o.Direct
	if o.Progress != nil {
		l.progress = o.Progress
	}
	return l, nil
}

// checkWay checks that there can be such a way from node to node.
func (o Options) checkWay() error {
	hosts := o.Underlay.List()
	switch o.Backend {
	case "", subnet.VXLAN:
		if o.Direct && !slices.ContainsFunc(o.Families.List(), func(f subnet.Family) bool { return slices.Contains(hosts, f) }) {
			return fmt.Errorf("direct routing leads to %s pods by the hosts' addresses of that family, and these have none, so all would go through the tunnel", o.Families.First())
		}
	case subnet.HostGW:
		if o.Direct {
			return fmt.Errorf("direct routing is an option of the backend %s; %s has nothing but direct routes", subnet.VXLAN, subnet.HostGW)
		}
		for _, f := range o.Families.List() {
			if !slices.Contains(hosts, f) {
				return fmt.Errorf("%s leads to %s pods by the hosts' %s addresses, and these have none", o.Backend, f, f)
			}
		}
	default:
		return fmt.Errorf("%q is no backend: %s or %s", o.Backend, subnet.VXLAN, subnet.HostGW)
	}
	if o.Firewall == "" || o.Firewall == "auto" {
		return nil
	}
	_, err := firewall.ParseTool(o.Firewall)
	return err
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
