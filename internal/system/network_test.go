package system

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// network connects hosts by a bridge in a network namespace of its own.
type network struct {
	t    *testing.T
	base string // file system of the hosts
	dir  string
	ns   *exec.Cmd // holds the namespace
}

const (
	router    = "192.0.2.1" // also where etcd is
	prefixLen = "/24"
)

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, base: base(t), dir: t.TempDir(), ns: hold(t)}
	t.Cleanup(func() { letGo(n.ns) })
	n.ip(n.ns, "link set lo up")
	n.ip(n.ns, "link add br0 type bridge")
	n.ip(n.ns, "link set br0 up")
	return n
}

// plug connects a host, and gives it its address and a way out.
func (n *network) plug(h *host) {
	n.t.Helper()
	// As of hardware, udev leaves the address of a device that was given one.
	last := netip.MustParseAddr(h.addr).As4()[3]
	n.ip(n.ns, fmt.Sprintf("link add %s type veth peer name eth0 address 02:00:00:00:00:%02x netns %d", h.name, last, h.netns.Process.Pid))
	n.ip(n.ns, fmt.Sprintf("link set %s master br0 up", h.name))
	n.ip(h.netns, "link set lo up")
	n.ip(h.netns, "address add "+h.addr+prefixLen+" dev eth0")
	n.ip(h.netns, "link set eth0 up")
	if h.addr != router {
		n.ip(h.netns, "route add default via "+router)
	}
}

// unplug waits for the end of a host's link, which goes with the namespace that it
// leads to.
func (n *network) unplug(h *host) {
	n.t.Helper()
	_ = inside(n.ns, "ip", "link", "delete", h.name).Run() // gone already, or now
}

func (n *network) ip(ns *exec.Cmd, args string) {
	n.t.Helper()
	if text, err := inside(ns, "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", args, err, text)
	}
}

// hold starts a process that does nothing but to hold a new network namespace.
func hold(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("unshare", "--net", "sh", "-c", "echo; exec sleep infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is inside now
		t.Fatal(err)
	}
	return cmd
}

func letGo(ns *exec.Cmd) {
	if ns.ProcessState == nil {
		_ = ns.Process.Kill()
		_ = ns.Wait() // it was killed
	}
}

// inside is a command of the machine that runs in a network namespace.
func inside(ns *exec.Cmd, name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", ns.Process.Pid), "--", name}, args...)...)
}
