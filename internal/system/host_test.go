package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is a machine with a disk, which boots and ends and boots again.
type host struct {
	t    *testing.T
	name string
	addr string // on the network of the hosts
	net  *network
	dir  string // on the machine: what the host has changed on its disk, and its console

	nspawn  *exec.Cmd
	leader  int        // its systemd
	netns   *exec.Cmd  // holds the network namespace of this boot
	stopped chan error // receives once when nspawn ends
}

// patience is how long anything may take on a busy machine.
const patience = 90 * time.Second

// newHost makes a host that is switched off.
func newHost(t *testing.T, n *network, name, addr string) *host {
	t.Helper()
	h := &host{t: t, name: name, addr: addr, net: n, dir: filepath.Join(n.dir, name)}
	for _, dir := range []string{"disk", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(h.kill)
	return h
}

// boot starts the host in a new network namespace, for a kernel that boots knows
// nothing of what was before, and returns when systemd has reached
// multi-user.target.
func (h *host) boot() {
	h.t.Helper()
	h.netns = hold(h.t)
	h.net.plug(h)
	// The mounts are in a mount namespace that ends with the host, and the host is
	// in a process namespace that ends with us.
	script := fmt.Sprintf(`touch net && mount --bind /proc/%d/ns/net net &&
		mount -t overlay overlay -o lowerdir=%s,upperdir=disk,workdir=work root &&
		exec unshare --pid --fork --kill-child --mount-proc systemd-nspawn -q -b -D root --machine=%s \
			--register=no --keep-unit --network-namespace-path="$PWD/net" --capability=CAP_NET_ADMIN`,
		h.netns.Process.Pid, h.net.base, h.name)
	h.nspawn = exec.Command("unshare", "--mount", "sh", "-c", script)
	h.nspawn.Dir = h.dir
	// Of the kernel's settings a host may change those of its network alone.
	h.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	h.nspawn.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	console, err := os.OpenFile(filepath.Join(h.dir, "console"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer console.Close()
	h.nspawn.Stdout, h.nspawn.Stderr = console, console
	if err := h.nspawn.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.stopped = make(chan error, 1)
	go func(c *exec.Cmd, stopped chan<- error) { stopped <- c.Wait() }(h.nspawn, h.stopped)
	h.until("multi-user.target is reached", func() error {
		if h.leader == 0 {
			h.leader = h.findLeader()
		}
		if h.leader == 0 {
			return fmt.Errorf("no systemd yet")
		}
		_, err := h.try("systemctl", "is-active", "multi-user.target")
		return err
	})
}

// findLeader looks for systemd below nspawn, which is below unshare; 0 if there is
// none yet.
func (h *host) findLeader() int {
	for _, nspawn := range children(h.nspawn.Process.Pid) {
		for _, child := range children(nspawn) {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); strings.TrimSpace(string(name)) == "systemd" {
				return child
			}
		}
	}
	return 0
}

func children(pid int) []int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var all []int
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// until tries until something holds.
func (h *host) until(what string, ok func() error) {
	h.t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Since(begin) > patience {
			console, _ := os.ReadFile(filepath.Join(h.dir, "console"))
			h.t.Fatalf("%s: %s: not within %s: %v\n%s", h.name, what, patience, err, console[max(0, len(console)-2000):])
		}
	}
}

// powerOff ends the host as an operator does, and with it its network.
func (h *host) powerOff() {
	h.t.Helper()
	_, _ = h.try("systemctl", "poweroff") // the answer may be cut off
	select {
	case err := <-h.stopped:
		if err != nil {
			h.t.Fatalf("%s: its nspawn: %v", h.name, err)
		}
	case <-time.After(patience):
		h.t.Fatalf("%s does not end", h.name)
	}
	h.leader, h.stopped = 0, nil
	letGo(h.netns)
	h.net.unplug(h)
}

// kill ends what is left of the host.
func (h *host) kill() {
	if h.stopped != nil {
		_ = h.nspawn.Process.Kill() // and with it all that is below
		<-h.stopped
		h.stopped = nil
	}
	if h.netns != nil {
		letGo(h.netns)
	}
}

// command is one that runs on the host.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-a", "-t", strconv.Itoa(h.leader), "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// try runs a command on the host and returns what it printed.
func (h *host) try(args ...string) (string, error) {
	ctx, stop := context.WithTimeout(h.t.Context(), patience)
	defer stop()
	var stdout, stderr bytes.Buffer
	cmd := h.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s# %s: %w: %s", h.name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), err
}

// sh runs a script on the host, which must succeed.
func (h *host) sh(script string) string {
	h.t.Helper()
	text, err := h.try("sh", "-euc", script)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, text)
	}
	return text
}

// put writes a file on the host.
func (h *host) put(path, text string, mode os.FileMode) {
	h.t.Helper()
	path = filepath.Join("/proc", strconv.Itoa(h.leader), "root", path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
}

// copyIn copies a file of the machine to the host.
func (h *host) copyIn(from, to string) {
	h.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(to, string(text), 0o644)
}

// journal is what the unit has logged since the host has booted.
func (h *host) journal(unit string) string {
	h.t.Helper()
	return h.sh("journalctl -b -q -o cat --no-pager -u " + unit)
}

// property is one of the unit's, as systemd tells it.
func (h *host) property(name string) string {
	h.t.Helper()
	return h.sh("systemctl show --value -p " + name + " tulled.service")
}
