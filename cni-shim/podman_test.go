package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/internal/lab"
	"tulle/internal/root"
)

// podmanConfig is for podman 4 inside a lab's host, which shares the machine's control
// groups and must leave them alone.
const podmanConfig = `[containers]
apparmor_profile = "unconfined"
cgroups = "disabled"
default_sysctls = []
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
static_dir = "/run/podman/static"
tmp_dir = "/run/podman/tmp"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/run/lab/bin"]
network_config_dir = "/run/cni"
default_network = "tulle"
`

// Two containers on two hosts are started by podman with its CNI backend, one with a
// published port: they talk, also after a restart, and leave nothing.
func TestContainersOfPodman(t *testing.T) {
	root.Require(t)
	requireRuntime(t, "podman", "conmon", "crun")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	nodes, bin := runtimeLab(ctx, t)
	program, err := os.ReadFile(bin + "/pause")
	if err != nil {
		t.Fatal(err)
	}
	one, two := podmanOn(ctx, t, nodes[0], program), podmanOn(ctx, t, nodes[1], program)
	one.start("--publish", "8080:80/tcp")
	two.start()
	wantConversation(t, one, two)
	one.restart()
	wantConversation(t, one, two)
	for _, p := range []*podman{one, two} {
		p.run("rm", "--force", "--time", "0", "web")
		wantNothingOn(t, p.Host)
	}
}

func wantConversation(t *testing.T, one, two *podman) {
	t.Helper()
	for _, way := range []struct{ from, to *podman }{{one, two}, {two, one}} {
		want := fmt.Sprintf("web-%s %s:", way.to.Name, way.from.ip)
		if got := way.from.run("exec", "web", "/pause", "ask", way.to.ip+":80"); !strings.HasPrefix(got, want) {
			t.Errorf("%s asks %s: %q, want %q", way.from.ip, way.to.ip, got, want)
		}
	}
	for _, from := range []*podman{one, two} {
		got := from.run("exec", "web", "/pause", "ask", one.Addr().String()+":8080")
		if !strings.HasPrefix(got, "web-"+one.Name+" ") {
			t.Errorf("%s asks the published port of %s: %q", from.ip, one.Name, got)
		}
	}
}

// podman is a lab's host with podman.
type podman struct {
	*lab.Host
	t   *testing.T
	ctx context.Context
	ip  string // of its container
}

func podmanOn(ctx context.Context, t *testing.T, h *lab.Host, program []byte) *podman {
	t.Helper()
	conflist, err := os.ReadFile("../dist/10-tulle.conflist")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Do(func() error {
		if err := unix.Mount("", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
			return err
		}
		for _, dir := range []string{"/run/cni", "/run/podman", "/run/rootfs"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		for name, text := range map[string][]byte{"/run/cni/10-tulle.conflist": conflist, "/run/podman/containers.conf": []byte(podmanConfig), "/run/rootfs/pause": program} {
			if err := os.WriteFile(name, text, 0o755); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return &podman{Host: h, t: t, ctx: ctx}
}

// run runs podman on the host and returns what it prints.
func (p *podman) run(args ...string) string {
	p.t.Helper()
	var out []byte
	if err := p.Do(func() error {
		cmd := exec.CommandContext(p.ctx, "podman", append([]string{
			"--root", "/run/podman/root", "--runroot", "/run/podman/run", "--storage-driver", "vfs",
		}, args...)...)
		cmd.Env = append(os.Environ(), "CONTAINERS_CONF=/run/podman/containers.conf")
		var said strings.Builder
		cmd.Stderr = &said
		var err error
		if out, err = cmd.Output(); err != nil {
			return fmt.Errorf("%w\n%s", err, &said)
		}
		return nil
	}); err != nil {
		p.t.Fatalf("podman %s on %s: %v", strings.Join(args, " "), p.Name, err)
	}
	return strings.TrimSpace(string(out))
}

// start starts a container that serves.
func (p *podman) start(options ...string) {
	p.t.Helper()
	p.run(append(append([]string{"run", "--detach", "--name", "web", "--hostname", "web-" + p.Name, "--network", "tulle"}, options...),
		"--rootfs", "/run/rootfs", "/pause", "serve")...)
	p.look()
}

func (p *podman) restart() {
	p.t.Helper()
	p.run("restart", "--time", "0", "web")
	p.look()
}

func (p *podman) look() {
	p.t.Helper()
	p.ip = p.run("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web")
}
