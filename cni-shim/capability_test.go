package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
)

// All verbs, with every wish, run with CAP_NET_ADMIN and CAP_SYS_ADMIN alone.
func TestTwoCapabilitiesAreEnough(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	list := h.conf("1.1.0", allWishes)
	// A process may look at the descriptors of another one only if it has all its
	// capabilities, so the namespace needs a path of its own.
	p.path = filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(p.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", p.ns.Fd()), p.path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(p.path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	result, err := h.confined(list, p, "ADD", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.confined(list, p, "CHECK", result); err != nil {
		t.Error(err)
	}
	if _, err := h.confined(list, p, "STATUS", nil); err != nil {
		t.Error(err)
	}
	if _, err := h.confined(list, p, "DEL", result); err != nil {
		t.Error(err)
	}
	h.wantNothing("DEL")
	if _, err := h.confined(list, p, "ADD", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.confined(withField(t, list, "cni.dev/valid-attachments", []string{}), p, "GC", nil); err != nil {
		t.Error(err)
	}
	h.wantNothing("GC")
}

// confined runs a verb with the two capabilities and returns what it prints.
func (h *host) confined(list *libcni.NetworkConfigList, p *testPod, verb string, result []byte) ([]byte, error) {
	h.Helper()
	fields := map[string]any{"name": list.Name, "cniVersion": list.CNIVersion}
	if result != nil {
		fields["prevResult"] = jsonText(result)
	}
	conf, err := libcni.InjectConf(list.Plugins[0], fields)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(h.Context(), filepath.Join(pluginDir, "tulle"))
	cmd.Stdin = strings.NewReader(string(conf.Bytes))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.id, "CNI_NETNS="+p.path, "CNI_IFNAME=eth0", "CNI_PATH="+pluginDir)
	var out []byte
	done := make(chan error, 1)
	go func() {
		// What is taken from this thread does not come back. It ends with the
		// goroutine, which does not unlock it.
		runtime.LockOSThread()
		done <- func() error {
			for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
				if c != unix.CAP_NET_ADMIN && c != unix.CAP_SYS_ADMIN {
					if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
						return err
					}
				}
			}
			if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			out, err = cmd.Output()
			return err
		}()
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("%s with two capabilities: %w: %s", verb, err, out)
	}
	return out, nil
}

// jsonText is JSON that is put into other JSON as it is.
type jsonText []byte

func (j jsonText) MarshalJSON() ([]byte, error) { return j, nil }
