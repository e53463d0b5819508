package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tulle/internal/root"
)

// pluginDir holds the binary under test, and the one that dies on demand.
var pluginDir string

const killable = "tulle-killable"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tulle-cni")
	if err != nil {
		log.Fatal(err)
	}
	pluginDir = dir
	// The second one dies where TULLE_KILL_AT says.
	for name, tags := range map[string]string{"tulle": "", killable: "killsteps"} {
		args := slices.Concat([]string{"build"}, buildFlags, []string{"-tags", tags, "-o", filepath.Join(dir, name), "."})
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			log.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// A program with the race detector otherwise rests for a second when it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		log.Print(err)
	}
	os.Exit(code)
}

// host is a node: a network namespace of its own, from which the real plugin is
// started through libcni, and directories for what it reads and writes.
type host struct {
	testing.TB
	*netlink.Handle
	ns         ns.NetNS
	cni        *libcni.CNIConfig
	subnetFile string
	dataDir    string
}

const (
	oneFamily = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.60.1/24\n" +
		"FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	twoFamilies = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.60.1/24\n" +
		"FLANNEL_IPV6_NETWORK=fd42::/48\nFLANNEL_IPV6_SUBNET=fd42:0:0:3::1/64\n" +
		"FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
)

// newHost makes a host whose subnet file has the text; none when it is empty.
func newHost(t testing.TB, subnetFile string) *host {
	t.Helper()
	root.Require(t)
	dir := t.TempDir()
	h := &host{
		TB: t,
		cni: libcni.NewCNIConfigWithCacheDir([]string{pluginDir}, filepath.Join(dir, "cache"),
			&invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}),
		subnetFile: filepath.Join(dir, "subnet.env"),
		dataDir:    filepath.Join(dir, "networks"),
	}
	h.ns, h.Handle = newNamespace(t)
	h.setSubnet(subnetFile)
	return h
}

func newNamespace(t testing.TB) (ns.NetNS, *netlink.Handle) {
	t.Helper()
	n, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return n, h
}

func (h *host) setSubnet(text string) {
	h.Helper()
	if text == "" {
		if err := os.RemoveAll(h.subnetFile); err != nil {
			h.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(h.subnetFile, []byte(text), 0o644); err != nil {
		h.Fatal(err)
	}
}

// conf is a configuration list of the version with this host's paths; extra is
// put in as further fields of the plugin.
func (h *host) conf(version, extra string) *libcni.NetworkConfigList {
	h.Helper()
	return h.network("tulle", version, extra)
}

func (h *host) network(name, version, extra string) *libcni.NetworkConfigList {
	h.Helper()
	ipam := `"ipam": {"dataDir": "` + h.dataDir + `"}`
	if rest, ok := strings.CutPrefix(extra, "ipam:"); ok {
		ipam, extra = `"ipam": {"dataDir": "`+h.dataDir+`", `+rest+`}`, ""
	}
	if extra != "" {
		extra = ", " + extra
	}
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil,
		`{"cniVersion": %q, "name": %q, "plugins": [{"type": "tulle", "subnetFile": %q, %s%s}]}`,
		version, name, h.subnetFile, ipam, extra))
	if err != nil {
		h.Fatal(err)
	}
	return list
}

// do runs f on a thread in the host's namespace: what it starts lives there.
func (h *host) do(f func() error) error {
	return h.ns.Do(func(ns.NetNS) error { return f() })
}

func (h *host) add(list *libcni.NetworkConfigList, p *testPod) (*current.Result, error) {
	var result *current.Result
	err := h.do(func() error {
		r, err := h.cni.AddNetworkList(h.Context(), list, p.runtime())
		if err != nil {
			return err
		}
		result, err = current.NewResultFromResult(r)
		return err
	})
	return result, err
}

func (h *host) mustAdd(list *libcni.NetworkConfigList, p *testPod) *current.Result {
	h.Helper()
	r, err := h.add(list, p)
	if err != nil {
		h.Fatalf("ADD of %s: %v", p.id, err)
	}
	return r
}

func (h *host) del(list *libcni.NetworkConfigList, p *testPod) error {
	return h.do(func() error { return h.cni.DelNetworkList(h.Context(), list, p.runtime()) })
}

func (h *host) check(list *libcni.NetworkConfigList, p *testPod) error {
	return h.do(func() error { return h.cni.CheckNetworkList(h.Context(), list, p.runtime()) })
}

func (h *host) status(list *libcni.NetworkConfigList) error {
	return h.do(func() error { return h.cni.GetStatusNetworkList(h.Context(), list) })
}

// refusal runs the plugin itself, without the runtime's library, and returns the error that
// it prints.
func (h *host) refusal(list *libcni.NetworkConfigList, p *testPod, verb string) error {
	h.Helper()
	cmd := h.verb(filepath.Join(pluginDir, "tulle"), list, p, verb)
	var out []byte
	err := h.do(func() (err error) { out, err = cmd.Output(); return err })
	if err == nil {
		return nil
	}
	told := &types.Error{}
	if json.Unmarshal(out, told) != nil || told.Code == 0 {
		return fmt.Errorf("%s: %w, and prints %q", verb, err, out)
	}
	return told
}

// ports are the names of the bridge's ports.
func (h *host) ports() []string {
	h.Helper()
	links, err := dump(h.LinkList)
	if err != nil {
		h.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if l.Attrs().MasterIndex != 0 {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// reserved are the addresses that a network's directory holds files for.
func (h *host) reserved(network string) []string {
	h.Helper()
	entries, err := os.ReadDir(filepath.Join(h.dataDir, network))
	if err != nil && !os.IsNotExist(err) {
		h.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			names = append(names, e.Name())
		}
	}
	return names
}

// wantNothing fails the test if anything of a pod is left on the host.
func (h *host) wantNothing(after string) {
	h.Helper()
	if ports := h.ports(); len(ports) > 0 {
		h.Errorf("after %s the bridge still has the ports %v", after, ports)
	}
	entries, err := os.ReadDir(filepath.Join(h.dataDir, "tulle"))
	if err != nil && !os.IsNotExist(err) {
		h.Fatal(err)
	}
	for _, e := range entries {
		if !isMemory(e.Name()) {
			h.Errorf("after %s there is still the file %s", after, e.Name())
		}
	}
	for _, name := range linkNames(h.TB, h.Handle) {
		if isHostName(name) || vethOf(name) != "" {
			h.Errorf("after %s there is still the link %s", after, name)
		}
	}
	rows, err := h.portRows()
	if err != nil {
		h.Fatal(err)
	}
	for _, r := range rows {
		h.Errorf("after %s there is still a row for %s (%s)", after, r, r.Owner)
	}
}

// isMemory reports whether a file of the directory of reservations is one that is kept
// when no pod is there.
func isMemory(name string) bool {
	return name == lockName || strings.HasPrefix(name, lastNamePrefix) || name == marksName
}

// wantError fails the test unless err is a CNI error with the code and all texts.
func wantError(t testing.TB, what string, err error, code uint, texts ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) {
		t.Errorf("%s = %v, want a CNI error with code %d", what, err, code)
		return
	}
	if e.Code != code {
		t.Errorf("%s: code %d (%s), want %d", what, e.Code, e.Msg, code)
	}
	for _, text := range texts {
		if !strings.Contains(e.Error(), text) {
			t.Errorf("%s: message %q, want it to contain %q", what, e, text)
		}
	}
}

// testPod is a pod: a network namespace.
type testPod struct {
	*netlink.Handle
	ns     ns.NetNS
	id     string
	ifName string
	path   string
	args   [][2]string

	capabilities map[string]any // arguments of the runtime
}

func newPod(t testing.TB, id string) *testPod {
	t.Helper()
	n, h := newNamespace(t)
	// The descriptor's path leads to the namespace from every process and
	// leaves no mount behind.
	return &testPod{Handle: h, ns: n, id: id, ifName: "eth0", path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd())}
}

func (p *testPod) runtime() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.id, NetNS: p.path, IfName: p.ifName, Args: p.args, CapabilityArgs: p.capabilities}
}

func (p *testPod) hostName() string { return attachment{p.id, p.ifName}.hostName() }

// portRows are the rows of the table of port mappings.
func (h *host) portRows() ([]portRow, error) {
	var rows []portRow
	err := h.do(func() error {
		f, err := openFirewall()
		if err != nil {
			return err
		}
		defer f.close()
		rows, err = f.list()
		return err
	})
	return rows, err
}

// reference guards the building of reference plugins.
var reference sync.Mutex

func run(name string, args ...string) ([]byte, error) {
	return exec.Command(name, args...).CombinedOutput()
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
