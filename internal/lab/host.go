package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// Role says what a host is for.
type Role string

// The roles of hosts.
const (
	RoleUnderlay Role = "underlay" // bridge, router and, if it has one member, etcd
	RoleEtcd     Role = "etcd"     // one of several members of etcd
	RoleNode     Role = "node"     // runs tulled and pods
	RoleOutside  Role = "outside"  // knows nothing of tulle
)

// Host is a machine of the lab: a process and the namespaces that end with it.
type Host struct {
	Place
	Role  Role
	Addrs [2]netip.Addr // on the underlay, or on the network outside, by subnet.Family

	lab      *Lab // that it is in
	link     link // nothing for the underlay
	process  process
	dir      string   // on the machine
	lifeline *os.File // the host lives as long as somebody holds it; nil: detached
}

// Addr is the host's address that other hosts use: that of IPv4 if it has one.
func (h *Host) Addr() netip.Addr {
	if four := h.Addrs[subnet.IPv4]; four.IsValid() {
		return four
	}
	return h.Addrs[subnet.IPv6]
}

// startHost starts a host's init and returns when it stands. The host is
// returned together with an error when its process may be there.
func startHost(ctx context.Context, h *Host, bin string, own []string) error {
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(h.dir, initLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	ready, tell, err := os.Pipe()
	if err != nil {
		lifeline.Close()
		return err
	}
	defer ready.Close()

	cmd := exec.Command(filepath.Join(bin, "tullectl"), "lab", "init", "--name", h.Name, "--dir", h.dir, "--bin", bin)
	for _, dir := range own {
		cmd.Args = append(cmd.Args, "--own", dir)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, log, log
	cmd.ExtraFiles = []*os.File{tell}
	cmd.Env = environment(h.Name)
	cmd.SysProcAttr = hostProcess()
	err = cmd.Start()
	tell.Close()
	if err != nil {
		lifeline.Close()
		return fmt.Errorf("start host %s: %w", h.Name, err)
	}
	h.lifeline = lifeline
	go func() { _ = cmd.Wait() }() // nothing but burying it: kill looks for itself
	if h.process, err = findProcess(cmd.Process.Pid); err != nil {
		return fmt.Errorf("start host %s: %w", h.Name, err)
	}

	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(past) })
	defer stop()
	answer, err := io.ReadAll(ready)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("start host %s: %w", h.Name, err)
	case string(answer) != "ok":
		return fmt.Errorf("start host %s: %s%s", h.Name, answer, h.logTail(initLog))
	}
	return nil
}

// detach lets the host outlive this process.
func (h *Host) detach() error {
	if h.lifeline == nil {
		return nil
	}
	_, err := h.lifeline.Write([]byte{detachByte})
	err = errors.Join(err, h.lifeline.Close())
	h.lifeline = nil
	return err
}

// end kills the host with all that is in it, and reports whether it lived.
func (h *Host) end(ctx context.Context) (bool, error) {
	if h.lifeline != nil {
		h.lifeline.Close()
		h.lifeline = nil
	}
	if h.process == (process{}) {
		return false, nil
	}
	return h.process.kill(ctx)
}

// Alive reports whether the host runs.
func (h *Host) Alive() bool { return h.process.alive() }

// Pid is the process on the machine that the host hangs on.
func (h *Host) Pid() int { return h.process.Pid }

// Path is where the machine sees a file of the host.
func (h *Host) Path(file string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", h.process.Pid), file)
}

// Log is the file on the machine with the output of a process that the host keeps.
func (h *Host) Log(name string) string { return filepath.Join(h.dir, name+".log") }

// Keep starts a process that the host keeps until it ends, and returns its pid
// in the host. A name is free again when its process has ended.
func (h *Host) Keep(ctx context.Context, a StartArgs) (int, error) {
	var pid int
	err := h.call(ctx, "Start", a, &pid)
	return pid, err
}

// Signal sends a signal to a process that the host keeps.
func (h *Host) Signal(ctx context.Context, name string, signal syscall.Signal) error {
	return h.call(ctx, "Signal", SignalArgs{name, signal}, &struct{}{})
}

// Wait returns when a process that the host keeps has ended.
func (h *Host) Wait(ctx context.Context, name string) (Status, error) {
	var s Status
	err := h.call(ctx, "Wait", name, &s)
	return s, err
}

// Processes tells what the host keeps.
func (h *Host) Processes(ctx context.Context) ([]Status, error) {
	var all []Status
	err := h.call(ctx, "List", struct{}{}, &all)
	return all, err
}

func (h *Host) call(ctx context.Context, method string, args, reply any) error {
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(h.dir, initSocket))
	if err != nil {
		return fmt.Errorf("%s: reach its init: %w", h.Name, err)
	}
	client := jsonrpc.NewClient(conn)
	defer client.Close()
	call := client.Go(supervisorName+"."+method, args, reply, nil)
	select {
	case <-call.Done:
	case <-ctx.Done():
		client.Close()
		<-call.Done // nobody writes to reply from now on
		return context.Cause(ctx)
	}
	if call.Error != nil {
		return fmt.Errorf("%s: %w", h.Name, call.Error)
	}
	return nil
}

// logTail is the end of a log for the text of an error, or nothing.
func (h *Host) logTail(name string) string {
	const most = 5
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err != nil || lines[0] == "" {
		return ""
	}
	lines = lines[max(0, len(lines)-most):]
	return fmt.Sprintf("; the end of %s:\n  %s", name, strings.Join(lines, "\n  "))
}

// stop sends a signal to a process that the host keeps and, unless that was
// SIGSTOP or SIGCONT, waits for its end.
func (h *Host) stop(ctx context.Context, name string, signal syscall.Signal) (Status, error) {
	if err := h.Signal(ctx, name, signal); err != nil {
		return Status{}, err
	}
	if signal == unix.SIGSTOP || signal == unix.SIGCONT {
		return Status{}, nil
	}
	return h.Wait(ctx, name)
}
