package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"

	"tulle/internal/lab"
	"tulle/internal/root"
	nodes "tulle/internal/status"
)

// daemonSet is what the kubelet goes by of dist/kubernetes/tulle.yaml. That the
// file is what the API wants is tested in dist/tools/kubernetes.
type daemonSet struct {
	Spec struct {
		Template struct {
			Spec struct {
				HostNetwork     bool
				SecurityContext struct{ SeccompProfile struct{ Type string } }
				InitContainers  []setContainer
				Containers      []setContainer
				Volumes         []setVolume
			}
		}
	}
}

type setContainer struct {
	Name, Image     string
	Command         []string
	SecurityContext struct {
		AllowPrivilegeEscalation, ReadOnlyRootFilesystem bool
		RunAsUser                                        int64
		Capabilities                                     struct{ Add, Drop []string }
	}
	EnvFrom []struct {
		ConfigMapRef struct{ Name string }
	}
	ReadinessProbe struct {
		HTTPGet struct {
			Host, Path string
			Port       int
		} `json:"httpGet"`
	}
	VolumeMounts []struct {
		Name, MountPath string
		ReadOnly        bool
	}
}

type setVolume struct {
	Name      string
	Secret    *struct{ SecretName string }
	ConfigMap *struct{ Name string }
	HostPath  *struct{ Path string }
}

// readManifest returns the DaemonSet and the ConfigMaps.
func readManifest(t *testing.T) (set daemonSet, configMaps map[string]map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../dist/kubernetes/tulle.yaml")
	if err != nil {
		t.Fatal(err)
	}
	configMaps = map[string]map[string]string{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var object struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		switch object.Kind {
		case "ConfigMap":
			configMaps[object.Metadata.Name] = object.Data
		case "DaemonSet":
			if err := yaml.Unmarshal([]byte(document), &set); err != nil {
				t.Fatal(err)
			}
		}
	}
	return set, configMaps
}

// The DaemonSet's containers are run on two hosts by containerd and runc, with no
// more rights than the manifest gives, from the image as it is made for a release.
// They install the plugin, and pods of both hosts reach each other.
func TestDaemonSetOfContainerd(t *testing.T) {
	root.Require(t)
	requireRuntime(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bin := t.TempDir()
	for name, path := range map[string]string{
		"tulle": "tulle/cni-shim", "tulled": "tulle/daemon", "tullectl": "tulle/tullectl", "pause": "./testdata/pause",
		"loopback": "github.com/containernetworking/plugins/plugins/main/loopback",
	} {
		goRun(ctx, t, ".", "build", "-o", filepath.Join(bin, name), path)
	}
	set, configMaps := readManifest(t)
	pod := set.Spec.Template.Spec
	archive := filepath.Join(t.TempDir(), "tulle.tar")
	goRun(ctx, t, "../dist/tools", "run", "./image", "-name", pod.Containers[0].Image, "-version", "test", "-out", archive, "-programs", runtime.GOARCH+"="+bin)

	l, err := lab.Up(ctx, lab.Options{Nodes: 2, Bin: bin, Own: []string{"/etc", "/opt"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	// etcd has no TLS here.
	env := configMaps["tulle"]
	for _, name := range []string{"CAFILE", "CERTFILE", "KEYFILE"} {
		delete(env, "TULLED_ETCD_"+name)
	}
	env["TULLED_ETCD_ENDPOINTS"] = l.EtcdURL()
	pause := image(t, pauseImage, filepath.Join(bin, "pause"))
	var pods []*criPod
	for _, h := range l.Nodes() {
		if _, err := h.StopDaemon(ctx, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Exec(ctx, "ip", "link", "delete", "tulle.1"); err != nil {
			t.Fatal(err)
		}
		// As `kubeadm` wants it of every node: containers can't set it.
		if err := h.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
			t.Fatal(err)
		}
		n := startRuntime(ctx, t, h, pause, strings.NewReplacer("/run/lab/bin", "/opt/cni/bin", "/run/cni", "/etc/cni/net.d").Replace(containerdConfig))
		n.importImage(ctx, t, archive)
		if _, err := n.Exec(ctx, "install", "-D", "/run/lab/bin/loopback", "/opt/cni/bin/loopback"); err != nil {
			t.Fatal(err)
		}
		n.runSet(ctx, t, set, configMaps)
		n.waitNetwork(ctx, t)
		pods = append(pods, n.runPod(ctx, t, "web", 0))
	}
	for _, way := range [][2]*criPod{{pods[0], pods[1]}, {pods[1], pods[0]}} {
		from, to := way[0], way[1]
		want := fmt.Sprintf("web-%s %s:", to.node.Name, from.ip)
		if got := from.ask(ctx, t, to.ip+":80"); !strings.HasPrefix(got, want) {
			t.Errorf("%s asks %s: %q, want %q", from.ip, to.ip, got, want)
		}
	}
	pods[0].node.waitMesh(ctx, t)
}

// waitMesh returns when both nodes have seen each other by the way of pods' packets,
// which needs a right of its own.
func (n *criNode) waitMesh(ctx context.Context, t *testing.T) {
	t.Helper()
	for {
		var m nodes.Mesh
		response, err := n.Client().Get("http://127.0.0.1:8471/mesh")
		if err == nil {
			err = json.NewDecoder(response.Body).Decode(&m)
			response.Body.Close()
		}
		good := 0
		for _, told := range m.Nodes {
			for _, r := range told.Peers {
				if r.Good() {
					good++
				}
			}
		}
		if err == nil && good == 2 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("mesh of %s: %+v, %v; want both nodes to reach each other", n.Name, m, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func goRun(ctx context.Context, t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", args, err, out)
	}
}

// runSet does with the DaemonSet what the kubelet does, and returns when its
// container says that it is ready.
func (n *criNode) runSet(ctx context.Context, t *testing.T, set daemonSet, configMaps map[string]map[string]string) {
	t.Helper()
	pod := set.Spec.Template.Spec
	if !pod.HostNetwork {
		t.Fatal("the DaemonSet is not on the host's network")
	}
	const logs = "/run/pod-logs"
	if _, err := n.Exec(ctx, "mkdir", "-p", logs); err != nil {
		t.Fatal(err)
	}
	options := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}
	sandbox := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "tulle", Namespace: "tulle-system", Uid: "tulle-uid"},
		LogDirectory: logs,
		Linux:        &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options}},
	}
	s, err := n.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		t.Fatalf("run the DaemonSet's pod on %s: %v", n.Name, err)
	}
	if pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
		t.Fatalf("seccomp profile = %s", pod.SecurityContext.SeccompProfile.Type)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		config := &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: c.Name}, Image: &cri.ImageSpec{Image: c.Image}, Command: c.Command, LogPath: c.Name + ".log",
			Mounts: n.mounts(t, c, pod.Volumes, configMaps),
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				Capabilities:     &cri.Capability{AddCapabilities: c.SecurityContext.Capabilities.Add, DropCapabilities: c.SecurityContext.Capabilities.Drop},
				NamespaceOptions: options,
				ReadonlyRootfs:   c.SecurityContext.ReadOnlyRootFilesystem,
				NoNewPrivs:       !c.SecurityContext.AllowPrivilegeEscalation,
				RunAsUser:        &cri.Int64Value{Value: c.SecurityContext.RunAsUser},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			}},
		}
		for _, from := range c.EnvFrom {
			for name, value := range configMaps[from.ConfigMapRef.Name] {
				config.Envs = append(config.Envs, &cri.KeyValue{Key: name, Value: value})
			}
		}
		if c.Name == "tulled" {
			config.Envs = append(config.Envs, &cri.KeyValue{Key: "TULLED_NODE_NAME", Value: n.Name})
		}
		created, err := n.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: s.PodSandboxId, SandboxConfig: sandbox, Config: config})
		if err == nil {
			_, err = n.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ContainerId})
		}
		if err != nil {
			t.Fatalf("start %s on %s: %v", c.Name, n.Name, err)
		}
		log := filepath.Join(logs, config.LogPath)
		n.waitContainer(ctx, t, c, created.ContainerId, log)
		if text, err := os.ReadFile(n.Path(log)); err != nil || strings.Contains(string(text), "means nothing to tulled") {
			t.Errorf("%s of %s does not know its environment (%v):\n%s", c.Name, n.Name, err, text)
		}
	}
}

// mounts gives a container its volumes: a folder of the host, or files that are
// written for it.
func (n *criNode) mounts(t *testing.T, c setContainer, volumes []setVolume, configMaps map[string]map[string]string) []*cri.Mount {
	t.Helper()
	var mounts []*cri.Mount
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(volumes, func(v setVolume) bool { return v.Name == m.Name })
		v, path := volumes[i], "/run/volumes/"+m.Name
		files := map[string]string{}
		switch {
		case v.HostPath != nil:
			path = v.HostPath.Path
		case v.ConfigMap != nil:
			files = configMaps[v.ConfigMap.Name]
		}
		err := n.Do(func() error {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, &cri.Mount{HostPath: path, ContainerPath: m.MountPath, Readonly: m.ReadOnly})
	}
	return mounts
}

// waitContainer returns when an init container has done its work, or when another
// one is ready.
func (n *criNode) waitContainer(ctx context.Context, t *testing.T, c setContainer, id, log string) {
	t.Helper()
	for probe := c.ReadinessProbe.HTTPGet; ; time.Sleep(20 * time.Millisecond) {
		answer, err := n.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		if s := answer.Status; s.State == cri.ContainerState_CONTAINER_EXITED {
			if probe.Path == "" && s.ExitCode == 0 {
				return
			}
			text, _ := os.ReadFile(n.Path(log))
			t.Fatalf("%s of %s ended with status %d %s:\n%s", c.Name, n.Name, s.ExitCode, s.Message, text)
		}
		if probe.Path != "" {
			response, err := n.Client().Get(fmt.Sprintf("http://%s:%d%s", probe.Host, probe.Port, probe.Path))
			if err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					return
				}
			}
		}
	}
}
