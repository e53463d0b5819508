package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
)

// allWishes makes ADD go through every step that it has.
const allWishes = `"capabilities": {"portMappings": true, "bandwidth": true}, "runtimeConfig": {
	"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
	"bandwidth": {"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000}}`

// steps are those that the source marks, in no particular order.
func steps(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bstep\("(\w+)"\)`).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

// runKilled runs the plugin with a verb and reports whether it was killed at the step.
func (h *host) runKilled(list *libcni.NetworkConfigList, p *testPod, verb, at string) bool {
	h.Helper()
	cmd := h.verb(filepath.Join(pluginDir, killable), list, p, verb)
	cmd.Env = append(cmd.Env, "TULLE_KILL_AT="+at)
	var out []byte
	err := h.do(func() (err error) { out, err = cmd.Output(); return err })
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(interface{ Signal() unix.Signal }); ok && s.Signal() == unix.SIGKILL {
			return true
		}
	}
	if err != nil {
		h.Fatalf("%s that should die at %s: %v\n%s", verb, at, err, out)
	}
	return false
}

func TestKilledAtEachStepLeavesNothing(t *testing.T) {
	t.Parallel()
	all := steps(t)
	if len(all) < 12 {
		t.Fatalf("the source marks the steps %v, want a dozen or more", all)
	}
	var mu sync.Mutex
	reached := map[string]bool{}
	t.Run("steps", func(t *testing.T) {
		for _, at := range all {
			for _, verb := range []string{"ADD", "DEL"} {
				for _, after := range []string{"DEL", "GC", "ADD and DEL"} {
					t.Run(at+" of "+verb+", then "+after, func(t *testing.T) {
						t.Parallel()
						h, p := newHost(t, twoFamilies), newPod(t, "pod1")
						other := newPod(t, "other") // which must not suffer
						list := h.conf("1.1.0", allWishes)
						h.mustAdd(h.conf("1.1.0", ""), other)
						if verb == "DEL" {
							h.mustAdd(list, p)
						}
						if !h.runKilled(list, p, verb, at) {
							return // not a step of this verb
						}
						mu.Lock()
						reached[at] = true
						mu.Unlock()
						h.cleanUp(list, p, after, other)
						if err := h.check(h.conf("1.1.0", ""), other); err != nil {
							t.Errorf("CHECK of the other pod: %v", err)
						}
						if err := h.del(list, other); err != nil {
							t.Fatal(err)
						}
						h.wantNothing(verb + " killed at " + at + " and " + after)
					})
				}
			}
		}
	})
	for _, at := range all {
		if !reached[at] && os.Geteuid() == 0 {
			t.Errorf("step %s was never reached", at)
		}
	}
}

func (h *host) cleanUp(list *libcni.NetworkConfigList, p *testPod, how string, keep *testPod) {
	h.Helper()
	switch how {
	case "GC":
		// What the runtime remembers of the others is needed for CHECK later.
		conf, err := libcni.InjectConf(list.Plugins[0], map[string]any{"name": list.Name, "cniVersion": list.CNIVersion,
			"cni.dev/valid-attachments": []map[string]string{{"containerID": keep.id, "ifname": keep.ifName}}})
		if err != nil {
			h.Fatal(err)
		}
		cmd := exec.CommandContext(h.Context(), filepath.Join(pluginDir, "tulle"))
		cmd.Stdin = strings.NewReader(string(conf.Bytes))
		cmd.Env = append(os.Environ(), "CNI_COMMAND=GC", "CNI_PATH="+pluginDir)
		var out []byte
		if err := h.do(func() (err error) { out, err = cmd.Output(); return err }); err != nil {
			h.Fatalf("GC: %v\n%s", err, out)
		}
	case "ADD and DEL":
		// A runtime that tries again after a timeout. Where the pod kept its
		// interface this is refused, and then DEL has to follow anyway.
		_, err := h.add(list, p)
		if err != nil && !strings.Contains(err.Error(), "already") {
			h.Errorf("second ADD: %v", err)
		}
		fallthrough
	default:
		if err := h.del(list, p); err != nil {
			h.Errorf("DEL: %v", err)
		}
	}
}

func TestAddRacesDelOfTheSameContainer(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	list := h.conf("1.1.0", allWishes)
	for range 12 {
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() { _, _ = h.add(list, p) }) // may be refused: the pod has its interface
			group.Go(func() {
				if err := h.del(list, p); err != nil {
					t.Errorf("DEL: %v", err)
				}
			})
		}
		group.Wait()
		if err := h.del(list, p); err != nil {
			t.Fatalf("last DEL: %v", err)
		}
		h.wantNothing("ADD and DEL at once, and DEL")
		if t.Failed() {
			return
		}
	}
}

// A runtime that tries again in a new namespace, and whose second attempt dies too. The
// address of the first attempt is free only when nobody has it.
func TestAddressOfADeadAttemptIsFreeWhenItsVethIsGone(t *testing.T) {
	t.Parallel()
	h := newHost(t, strings.ReplaceAll(oneFamily, "60.1/24", "60.1/30")) // one address
	list, first, second, other := h.conf("1.1.0", ""), newPod(t, "pod1"), newPod(t, "pod1"), newPod(t, "other")
	if !h.runKilled(list, first, "ADD", "announced") || !h.runKilled(list, second, "ADD", "index") {
		t.Fatal("the attempts were not killed")
	}
	h.mustAdd(list, other)
	if got, want := h.ports(), []string{other.hostName()}; !slices.Equal(got, want) {
		t.Errorf("ports with the only address of the range: %v, want %v", got, want)
	}
}

// A program in the pod can put a lock on its namespace, and hand it to one that outlives the pod.
func TestLockOfAPodHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	lock, err := os.Open(p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"ADD", "DEL"} {
		cmd := h.verb(filepath.Join(pluginDir, "tulle"), h.conf("1.1.0", ""), p, verb)
		if err := h.do(cmd.Start); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		if !late.Stop() {
			t.Fatalf("%s waits for a lock that the pod has", verb)
		}
		if err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
	h.wantNothing("DEL")
}

func TestTwoNetworksOnOneNode(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	second := filepath.Join(t.TempDir(), "second.env")
	if err := os.WriteFile(second, []byte(strings.ReplaceAll(oneFamily, "10.244.", "10.245.")), 0o644); err != nil {
		t.Fatal(err)
	}
	blue := h.network("tulle", "1.1.0", "")
	red, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion": "1.1.0", "name": "red", "plugins": [
		{"type": "tulle", "bridge": "red0", "subnetFile": "` + second + `", "ipam": {"dataDir": "` + h.dataDir + `"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	pods := make([]*testPod, 6)
	var group sync.WaitGroup
	for i := range pods {
		pods[i] = newPod(t, "pod"+string(rune('a'+i)))
		inRed := *pods[i]
		inRed.ifName = "eth1"
		for _, one := range []struct {
			list *libcni.NetworkConfigList
			pod  *testPod
		}{{blue, pods[i]}, {red, &inRed}} {
			group.Go(func() {
				list := one.list
				if list == red { // one default route is enough
					list = withField(t, red, "isDefaultGateway", false)
				}
				if _, err := h.add(list, one.pod); err != nil {
					t.Errorf("ADD of %s %s: %v", one.pod.id, one.pod.ifName, err)
				}
			})
		}
	}
	group.Wait()
	got := []int{len(h.reserved("tulle")), len(h.reserved("red")), len(h.ports())}
	if want := []int{6, 6, 12}; !slices.Equal(got, want) {
		t.Errorf("addresses of tulle, of red, and ports: %v, want %v", got, want)
	}
	if err := h.gc(red); err != nil {
		t.Fatal(err)
	}
	got = []int{len(h.reserved("tulle")), len(h.reserved("red")), len(h.ports())}
	if want := []int{6, 0, 6}; !slices.Equal(got, want) {
		t.Errorf("after GC of red: addresses of tulle, of red, and ports: %v, want %v", got, want)
	}
}

func withField(t *testing.T, list *libcni.NetworkConfigList, key string, value any) *libcni.NetworkConfigList {
	t.Helper()
	conf, err := libcni.InjectConf(list.Plugins[0], map[string]any{key: value})
	if err != nil {
		t.Fatal(err)
	}
	changed := *list
	changed.Plugins = []*libcni.PluginConfig{conf}
	return &changed
}
