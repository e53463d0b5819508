package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// Dir holds one directory per lab.
const Dir = "/run/tulle-lab"

const stateFile = "state.json"

// nameForm keeps the path of a host's socket below the 108 bytes of unix(7).
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// state is what a later process needs to find the lab again.
type state struct {
	Bin      string      `json:"bin"`
	Families Families    `json:"families"`
	Underlay Families    `json:"underlay"`
	Firewall string      `json:"firewall,omitempty"`
	Hosts    []hostState `json:"hosts"`
	Pods     []podState  `json:"pods"`
}

type hostState struct {
	Name    string        `json:"name"`
	Role    Role          `json:"role"`
	Addrs   [2]netip.Addr `json:"addrs"`
	Link    link          `json:"link,omitempty"`
	Process process       `json:"process"`
}

type podState struct {
	Name  string          `json:"name"`
	Host  string          `json:"host"`
	Addrs [2]netip.Prefix `json:"addrs"`
}

// save writes the state file in one step.
func (l *Lab) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := state{Bin: l.Bin, Families: l.Families, Underlay: l.Underlay, Firewall: l.Firewall}
	for _, h := range l.Hosts {
		if h.process != (process{}) {
			s.Hosts = append(s.Hosts, hostState{h.Name, h.Role, h.Addrs, h.link, h.process})
		}
	}
	for _, p := range l.Pods {
		s.Pods = append(s.Pods, podState{p.Name, p.host.Name, p.Addrs})
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, stateFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write state of lab %s: %w", l.Name, err)
	}
	return os.Rename(path+".new", path)
}

// ErrNone says that there is no lab of a name.
var ErrNone = errors.New("no such lab")

// Load finds a lab that another process brought up, or what is left of one. The
// error is ErrNone when there is nothing of that name.
func Load(name string) (*Lab, error) {
	if !nameForm.MatchString(name) {
		return nil, badName(name)
	}
	l := newLab(name)
	if _, err := os.Stat(l.dir); err != nil {
		return nil, fmt.Errorf("%w: %s; bring one up with tullectl lab up", ErrNone, name)
	}
	text, err := os.ReadFile(filepath.Join(l.dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil // it died, or is, before its first host
	}
	var s state
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("read state of lab %s: %w", name, err)
	}
	l.Bin, l.Families, l.Underlay, l.Firewall = s.Bin, s.Families, s.Underlay, s.Firewall
	for _, hs := range s.Hosts {
		h := l.newHost(hs.Name, hs.Role, hs.Link, hs.Addrs)
		h.process = hs.Process
		l.Hosts = append(l.Hosts, h)
	}
	for _, ps := range s.Pods {
		if h := l.Host(ps.Host); h != nil {
			p := newPod(h, ps.Name)
			p.Addrs = ps.Addrs
			l.Pods = append(l.Pods, p)
		}
	}
	return l, nil
}

// List names all labs of the machine, those included of which only the
// directory is left.
func List() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if nameForm.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func badName(name string) error {
	return fmt.Errorf("%q cannot name a lab: use up to 31 of a-z, 0-9 and -, not beginning with -", name)
}
