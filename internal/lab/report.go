package lab

import (
	"context"
	"net/netip"
	"slices"
)

// Report is the state of a lab at one moment.
type Report struct {
	Name  string       `json:"name"`
	Hosts []HostReport `json:"hosts"`
	Pods  []PodReport  `json:"pods"`
}

// HostReport is a host in a Report.
type HostReport struct {
	Name      string       `json:"name"`
	Role      Role         `json:"role"`
	Addrs     []netip.Addr `json:"addrs"`
	Pid       int          `json:"pid"` // on the machine
	Alive     bool         `json:"alive"`
	State     string       `json:"state"` // in words
	Processes []Status     `json:"processes"`
}

// PodReport is a pod in a Report.
type PodReport struct {
	Name  string         `json:"name"`
	Host  string         `json:"host"`
	Addrs []netip.Prefix `json:"addrs"`
	State string         `json:"state"`
}

// Report asks every host. What does not answer is in the report and no error.
func (l *Lab) Report(ctx context.Context) Report {
	r := Report{Name: l.Name, Hosts: []HostReport{}, Pods: []PodReport{}}
	kept := map[string]map[string]Status{} // by host and process
	for _, h := range l.Hosts {
		hr := HostReport{Name: h.Name, Role: h.Role, Addrs: valid(h.Addrs), Pid: h.Pid(), Alive: h.Alive(), Processes: []Status{}}
		kept[h.Name] = map[string]Status{}
		if hr.Alive {
			all, err := h.Processes(ctx)
			if err != nil {
				hr.State = err.Error()
			}
			hr.Processes = append(hr.Processes, all...)
			for _, s := range all {
				kept[h.Name][s.Name] = s
			}
		}
		if hr.State == "" {
			hr.State = h.state(ctx, hr.Alive, kept[h.Name])
		}
		r.Hosts = append(r.Hosts, hr)
	}
	for _, p := range l.Pods {
		r.Pods = append(r.Pods, PodReport{p.Name, p.host.Name, valid(p.Addrs), words(kept[p.host.Name], p.Name)})
	}
	return r
}

// valid is those of both families that there are.
func valid[T interface{ IsValid() bool }](both [2]T) []T {
	return slices.DeleteFunc(both[:], func(a T) bool { return !a.IsValid() })
}

// state is a host in words: what it is for, and how that is.
func (h *Host) state(ctx context.Context, alive bool, kept map[string]Status) string {
	switch {
	case !alive:
		return "gone"
	case h.Role == RoleUnderlay && h.lab.EtcdHosts()[0] != h:
		return "running"
	case h.Role == RoleUnderlay, h.Role == RoleEtcd:
		return "etcd " + words(kept, etcdName)
	case h.Role == RoleOutside:
		return "running"
	case !kept[daemonName].Running:
		return "tulled " + words(kept, daemonName)
	}
	if err := h.Ready(ctx); err != nil {
		return "tulled is not ready: " + err.Error()
	}
	return "tulled is ready"
}

func words(kept map[string]Status, name string) string {
	s, ok := kept[name]
	switch {
	case !ok:
		return "was not started"
	case s.Running:
		return "is running"
	}
	return "ended: " + s.Exit
}
