package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
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

// Sysctl writes a setting of the place's network, named as below /proc/sys.
func (p *Place) Sysctl(name, value string) error {
	return p.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
}

// Client makes HTTP requests from inside the place, each on a connection of its own.
func (p *Place) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true}}
}

// Directories as a host sees them.
const (
	hostDir = "/run/lab"       // the host's directory of the lab
	hostBin = hostDir + "/bin" // tulle's programs
	ownDirs = "/run/own"       // what was written in the copies of the machine's folders
	podNets = "/run/netns"     // where ip-netns(8) looks for the pods' namespaces
)
