package lab

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// supervisorName is that of the service on a host's socket.
const supervisorName = "Host"

// supervisor starts the processes that a host keeps and knows how they ended.
// They are children of the host's init, not of the program that asked, so that
// they outlive it and are buried whatever the machine's own pid 1 does.
//
// Its exported methods are those of the service on the host's socket.
type supervisor struct {
	host string

	mu    sync.Mutex // guards all following fields, and a process's start against its end
	procs map[string]*proc
}

type proc struct {
	Status
	done chan struct{} // closed by reap
}

// Status says what became of a process that the host keeps.
type Status struct {
	Name    string `json:"name"`
	Pid     int    `json:"pid"` // in the host
	Running bool   `json:"running"`
	Exit    string `json:"exit"` // how it ended: "exit status 1", "signal: killed"
}

// StartArgs ask a host to start a process. Its output goes to NAME.log in the
// host's directory.
type StartArgs struct {
	Name string
	Args []string
	Pod  string // the pod whose network it gets; empty: the host's
}

// SignalArgs ask a host to send a signal to a process.
type SignalArgs struct {
	Name   string
	Signal syscall.Signal
}

func newSupervisor(host string) *supervisor {
	return &supervisor{host: host, procs: map[string]*proc{}}
}

// Start starts a process under a name that no running process has, and answers its pid.
func (s *supervisor) Start(a StartArgs, pid *int) error {
	log, err := os.OpenFile(filepath.Join(hostDir, a.Name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	program, err := lookPath(a.Args[0])
	if err != nil {
		return err
	}
	var namespaces []string
	if a.Pod != "" {
		namespaces = []string{filepath.Join(podNets, a.Pod)}
	}
	return inside(namespaces, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p := s.procs[a.Name]; p != nil && p.Running {
			return fmt.Errorf("start %s: it runs already as process %d", a.Name, p.Pid)
		}
		*pid, err = syscall.ForkExec(program, a.Args, &syscall.ProcAttr{
			Dir:   "/",
			Env:   environment(s.host),
			Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			return fmt.Errorf("start %s: %w", strings.Join(a.Args, " "), err)
		}
		s.procs[a.Name] = &proc{Status{Name: a.Name, Pid: *pid, Running: true}, make(chan struct{})}
		return nil
	})
}

// Signal sends a signal to a running process.
func (s *supervisor) Signal(a SignalArgs, _ *struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.procs[a.Name]
	if p == nil || !p.Running {
		return fmt.Errorf("signal %s: it does not run", a.Name)
	}
	return unix.Kill(p.Pid, a.Signal)
}

// Wait answers when the process has ended.
func (s *supervisor) Wait(name string, status *Status) error {
	s.mu.Lock()
	p := s.procs[name]
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("wait for %s: it was never started", name)
	}
	<-p.done
	*status = p.Status
	return nil
}

// List answers the state of all processes, by name.
func (s *supervisor) List(_ struct{}, all *[]Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		*all = append(*all, p.Status)
	}
	slices.SortFunc(*all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// AddPod makes the network namespace of a pod, with nothing but its loopback.
func (s *supervisor) AddPod(name string, _ *struct{}) error {
	path := filepath.Join(podNets, name)
	return inside(nil, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace %s: %w", name, err)
		}
		f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
		if err != nil {
			return err
		}
		f.Close()
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount network namespace %s: %w", path, err)
		}
		return loopbackUp()
	})
}

// RemovePod takes the network namespace of a pod away.
func (s *supervisor) RemovePod(name string, _ *struct{}) error {
	path := filepath.Join(podNets, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	return os.Remove(path)
}

// reap buries every process of the host that ends: those started here, and
// those whose parent died.
func (s *supervisor) reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if pid <= 0 {
				break
			}
			s.ended(pid, status)
		}
	}
}

func (s *supervisor) ended(pid int, status syscall.WaitStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		if p.Pid == pid && p.Running {
			p.Running, p.Exit = false, exitText(status)
			close(p.done)
		}
	}
}

func exitText(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
