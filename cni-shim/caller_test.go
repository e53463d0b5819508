package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// caller is a program that attaches pods by a list of plugins, started on the host.
type caller struct {
	*host
	program string
	state   string // what it takes for /var/lib
	env     []string
}

// caller builds the program of a package, as seen from the folder of a module.
func (h *host) caller(module, path string) *caller {
	h.Helper()
	dir := h.TempDir()
	c := &caller{host: h, program: filepath.Join(dir, "caller"), state: filepath.Join(dir, "state")}
	if err := os.Mkdir(c.state, 0o755); err != nil {
		h.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", c.program, path)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.Fatalf("go build %s: %v\n%s", path, err, out)
	}
	return c
}

// list writes the distributed list with this host's paths and returns its path.
func (h *host) list() string {
	h.Helper()
	text := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "tulle", "plugins": [
		{"type": "tulle", "capabilities": {"portMappings": true, "bandwidth": true}, "subnetFile": %q, "ipam": {"dataDir": %q}}]}`, h.subnetFile, h.dataDir)
	path := filepath.Join(h.TempDir(), "10-tulle.conflist")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
	return path
}

// run starts the program in the host's namespace, with a /var/lib of its own: what
// such programs remember of a pod is there.
func (c *caller) run(args ...string) (string, error) {
	var out []byte
	err := c.do(func() error {
		script := []string{"--mount", "sh", "-c", `mount --bind "$0" /var/lib && exec "$@"`, c.state, c.program}
		cmd := exec.CommandContext(c.Context(), "unshare", append(script, args...)...)
		cmd.Env = append(os.Environ(), c.env...)
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func TestAttachedByCNITool(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	out := h.outside()
	tool := h.caller(".", "github.com/containernetworking/cni/cnitool")
	tool.env = []string{"CNI_PATH=" + pluginDir, "NETCONFPATH=" + filepath.Dir(h.list()),
		`CAP_ARGS={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`}
	answer, err := tool.run("add", "tulle", p.path)
	if err != nil || !strings.Contains(answer, `"10.244.60.2/24"`) || !strings.Contains(answer, `"fd42:0:0:3::2/64"`) {
		t.Fatalf("cnitool add answers %s, %v, want the two first addresses", answer, err)
	}
	serve(t, p.ns, 80, "pod1")
	for _, to := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
		if got, err := ask(out, "tcp", to, 5*time.Second); err != nil || !strings.HasPrefix(got, "pod1 ") {
			t.Errorf("%s answers %q, %v, want pod1", to, got, err)
		}
	}
	for _, verb := range []string{"check", "status", "del", "del"} {
		if _, err := tool.run(verb, "tulle", p.path); err != nil {
			t.Error(err)
		}
	}
	h.wantNothing("cnitool del")
}

// Nomad attaches through the library go-cni, in a newer version than containerd of a
// distribution has.
func TestAttachedThroughGoCNI(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	out := h.outside()
	nomad := h.caller("testdata/gocni", ".")
	list := h.list()
	answer, err := nomad.run("add", list, pluginDir, p.id, p.path)
	if err != nil || answer != "10.244.60.2" {
		t.Fatalf("Setup answers %q, %v, want 10.244.60.2", answer, err)
	}
	serve(t, p.ns, 80, "pod1")
	for _, network := range []string{"tcp", "udp"} {
		if got, err := ask(out, network, "192.0.2.1:8080", 5*time.Second); err != nil || !strings.HasPrefix(got, "pod1 192.0.2.2") {
			t.Errorf("%s: 192.0.2.1:8080 answers %q, %v, want pod1", network, got, err)
		}
	}
	for _, verb := range []string{"check", "del", "del"} {
		if _, err := nomad.run(verb, list, pluginDir, p.id, p.path); err != nil {
			t.Error(err)
		}
	}
	h.wantNothing("Remove")
}

// What CRI-O's library ocicni says of a pod: arguments of Kubernetes, and ports in the
// words of the conventions, with a protocol in small letters and an empty host address.
func TestArgumentsOfCRIO(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	p.args = [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web"},
		{"K8S_POD_INFRA_CONTAINER_ID", p.id}, {"K8S_POD_UID", "8a0a0f5e-5f0b-4b0e-9d1d-0c8b0a2b0a3e"},
	}
	p.capabilities = map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}},
		"bandwidth":    map[string]any{"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
		"cgroupPath":   "/kubepods/burstable/pod8a0a0f5e", // not declared, so not ours
	}
	list := h.conf("1.0.0", `"capabilities": {"portMappings": true, "bandwidth": true}`)
	h.mustAdd(list, p)
	link, err := h.LinkByName(p.hostName())
	if err != nil {
		t.Fatal(err)
	}
	if got := link.Attrs().Alias; got != "shop/web" {
		t.Errorf("alias %q, want shop/web", got)
	}
	if got, want := h.traces(), (traces{shapers: 1, buckets: 2, rows: 4}); got != want {
		t.Errorf("after ADD: %+v, want %+v", got, want)
	}
	if err := h.check(list, p); err != nil {
		t.Error(err)
	}
	if err := h.del(list, p); err != nil {
		t.Error(err)
	}
	h.wantNothing("DEL")
}
