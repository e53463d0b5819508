package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"tulle/internal/lab"
	"tulle/internal/root"
)

const pauseImage = "localhost/pause:1"

// patience is how long a test with a real runtime may take before its hosts are taken down.
// One takes seconds; on a machine that has ten times as much to do as it can, minutes.
const patience = 8 * time.Minute

// containerdConfig is for containerd 1.6 and newer inside a lab's host, which
// shares the machine's control groups and must leave them alone.
const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + pauseImage + `"
disable_cgroup = true
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/run/lab/bin"
conf_dir = "/run/cni"
`

// Two pods on two hosts are started by containerd and runc over CRI, as the kubelet
// does it: they talk, start anew, and leave nothing.
func TestPodsOfContainerd(t *testing.T) {
	root.Require(t)
	requireRuntime(t, "containerd", "ctr", "runc")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	nodes, bin := runtimeLab(ctx, t)
	archive := image(t, pauseImage, filepath.Join(bin, "pause"))
	one, two := startNode(ctx, t, nodes[0], archive), startNode(ctx, t, nodes[1], archive)

	for attempt := range uint32(2) {
		a, b := one.runPod(ctx, t, "web", attempt), two.runPod(ctx, t, "web", attempt)
		for _, way := range []struct {
			from *criPod
			to   *criPod
		}{{a, b}, {b, a}} {
			want := fmt.Sprintf("web-%s %s:", way.to.node.Name, way.from.ip)
			if got := way.from.ask(ctx, t, way.to.ip+":80"); !strings.HasPrefix(got, want) {
				t.Errorf("attempt %d, %s asks %s: %q, want %q", attempt, way.from.ip, way.to.ip, got, want)
			}
		}
		// The host port of one from the other's node, and from the pod itself.
		if got := b.ask(ctx, t, a.node.Addr().String()+":8080"); !strings.HasPrefix(got, "web-"+a.node.Name+" ") {
			t.Errorf("attempt %d, host port of %s: %q", attempt, a.node.Name, got)
		}
		if got := a.ask(ctx, t, a.node.Addr().String()+":8080"); !strings.HasPrefix(got, "web-"+a.node.Name+" ") {
			t.Errorf("attempt %d, own host port of %s: %q", attempt, a.node.Name, got)
		}
		a.remove(ctx, t)
		b.remove(ctx, t)
		wantNothingOn(t, one.Host)
		wantNothingOn(t, two.Host)
	}
}

// runtimeLab brings up two hosts, and builds what a runtime needs there.
func runtimeLab(ctx context.Context, t *testing.T) (nodes []*lab.Host, bin string) {
	t.Helper()
	bin = t.TempDir()
	for name, path := range map[string]string{
		"tulle": "tulle/cni-shim", "tulled": "tulle/daemon", "tullectl": "tulle/tullectl", "pause": "./testdata/pause",
		"loopback": "github.com/containernetworking/plugins/plugins/main/loopback", // which runtimes call for each pod
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, name), path)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", path, err, out)
		}
	}
	l, err := lab.Up(ctx, lab.Options{Nodes: 2, Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	return l.Nodes(), bin
}

// requireRuntime skips the test where one of the programs is missing, and fails it
// where TULLE_REQUIRE_RUNTIME=1 says that they are there.
func requireRuntime(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("TULLE_REQUIRE_RUNTIME") == "1" {
			t.Fatalf("%s is missing, and TULLE_REQUIRE_RUNTIME=1 says that it must be there", program)
		}
		t.Skipf("needs %s, which dist/setup installs", program)
	}
}

// criNode is a lab's host with containerd.
type criNode struct {
	*lab.Host
	runtime cri.RuntimeServiceClient
}

// startNode starts containerd on a host whose network is there.
func startNode(ctx context.Context, t *testing.T, h *lab.Host, archive string) *criNode {
	t.Helper()
	conflist, err := os.ReadFile("../dist/10-tulle.conflist")
	if err != nil {
		t.Fatal(err)
	}
	err = h.Do(func() error {
		if err := os.MkdirAll("/run/cni", 0o755); err != nil {
			return err
		}
		return os.WriteFile("/run/cni/10-tulle.conflist", conflist, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	n := startRuntime(ctx, t, h, archive, containerdConfig)
	n.waitNetwork(ctx, t)
	return n
}

// startRuntime starts containerd with the image of sandboxes.
func startRuntime(ctx context.Context, t *testing.T, h *lab.Host, archive, config string) *criNode {
	t.Helper()
	err := h.Do(func() error {
		if err := unix.Mount("", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
			return err
		}
		return os.WriteFile("/run/containerd.toml", []byte(config), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Keep(ctx, lab.StartArgs{Name: "containerd", Args: []string{"containerd", "--config", "/run/containerd.toml"}}); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+h.Path("/run/containerd/containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	n := &criNode{h, cri.NewRuntimeServiceClient(conn)}
	if _, err := n.runtime.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		log, _ := os.ReadFile(h.Log("containerd"))
		t.Fatalf("containerd of %s does not answer: %v\n%s", h.Name, err, log)
	}
	n.importImage(ctx, t, archive)
	return n
}

// importImage gives containerd the images of an archive.
func (n *criNode) importImage(ctx context.Context, t *testing.T, archive string) {
	t.Helper()
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	err = n.Do(func() error {
		if err := os.WriteFile("/run/image.tar", text, 0o600); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, "ctr", "--namespace", "k8s.io", "images", "import", "--snapshotter", "native", "/run/image.tar").CombinedOutput()
		if err != nil {
			return fmt.Errorf("import the image: %w\n%s", err, out)
		}
		return os.Remove("/run/image.tar")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waitNetwork returns when containerd has found the CNI configuration.
func (n *criNode) waitNetwork(ctx context.Context, t *testing.T) {
	t.Helper()
	for {
		s, err := n.runtime.Status(ctx, &cri.StatusRequest{})
		if err == nil && networkReady(s) {
			return
		}
		if ctx.Err() != nil {
			log, _ := os.ReadFile(n.Log("containerd"))
			t.Fatalf("the network of %s is not ready: %v %v\n%s", n.Name, s, err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func networkReady(s *cri.StatusResponse) bool {
	for _, c := range s.GetStatus().GetConditions() {
		if c.Type == cri.NetworkReady {
			return c.Status
		}
	}
	return false
}

// criPod is a pod with one container that serves.
type criPod struct {
	node          *criNode
	id, container string
	ip            string
}

func (n *criNode) runPod(ctx context.Context, t *testing.T, name string, attempt uint32) *criPod {
	t.Helper()
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name + "-uid", Attempt: attempt},
		Hostname:     name + "-" + n.Name,
		PortMappings: []*cri.PortMapping{{Protocol: cri.Protocol_TCP, HostPort: 8080, ContainerPort: 80}},
		Linux:        &cri.LinuxPodSandboxConfig{},
	}
	sandbox, err := n.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatalf("run a pod on %s: %v", n.Name, err)
	}
	status, err := n.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: sandbox.PodSandboxId})
	if err != nil {
		t.Fatal(err)
	}
	container, err := n.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sandbox.PodSandboxId, SandboxConfig: config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "serve"}, Image: &cri.ImageSpec{Image: pauseImage}, Args: []string{"serve"},
			Linux: &cri.LinuxContainerConfig{},
		},
	})
	if err == nil {
		_, err = n.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: container.ContainerId})
	}
	if err != nil {
		t.Fatalf("start a container on %s: %v", n.Name, err)
	}
	return &criPod{n, sandbox.PodSandboxId, container.ContainerId, status.Status.Network.Ip}
}

// ask asks from inside the pod's container. Who is asked may have been started just
// now, and does not listen yet.
func (p *criPod) ask(ctx context.Context, t *testing.T, addr string) string {
	t.Helper()
	for {
		r, err := p.node.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"/pause", "ask", addr}, Timeout: 10})
		if err != nil {
			t.Errorf("ask %s from %s: %v", addr, p.ip, err)
			return ""
		}
		if r.ExitCode != 0 && strings.Contains(string(r.Stderr), "connection refused") && ctx.Err() == nil {
			continue
		}
		if r.ExitCode != 0 {
			t.Errorf("ask %s from %s: %s", addr, p.ip, r.Stderr)
		}
		return string(r.Stdout)
	}
}

func (p *criPod) remove(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := p.node.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		t.Errorf("stop the pod on %s: %v", p.node.Name, err)
	}
	if _, err := p.node.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		t.Errorf("remove the pod on %s: %v", p.node.Name, err)
	}
}

// wantNothingOn fails the test if anything of a pod is left on the node.
func wantNothingOn(t *testing.T, n *lab.Host) {
	t.Helper()
	err := n.Do(func() error {
		for _, dir := range []string{"/var/lib/cni/networks/tulle", "/var/lib/cni/results", "/run/netns", "/var/run/netns"} {
			entries, err := os.ReadDir(dir)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			for _, e := range entries {
				if !isMemory(e.Name()) {
					t.Errorf("left on %s: %s/%s", n.Name, dir, e.Name())
				}
			}
		}
		links, err := os.ReadDir("/sys/class/net")
		if err != nil {
			return err
		}
		for _, l := range links {
			if isHostName(l.Name()) {
				t.Errorf("left on %s: %s", n.Name, l.Name())
			}
		}
		f, err := openFirewall()
		if err != nil {
			return err
		}
		defer f.close()
		rows, err := f.list()
		for _, r := range rows {
			t.Errorf("left on %s: %s", n.Name, r)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
