package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// The plugin starts for each pod that comes or goes, so what is linked into it counts.
func TestProgramIsSmall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tulle")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(6_000_000); info.Size() >= most {
		t.Errorf("the stripped program has %d bytes, want less than %d", info.Size(), most)
	}
}

// What a runtime passes becomes part of paths and names, and is looked at before that.
// The runtime's library does so too; here there is none.
func TestNamesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	const good = "eth0"
	for _, tt := range []struct{ name, id, ifName string }{
		{"a container that leads out of the directory", "../../../etc/passwd", good},
		{"a container with a slash", "a/b", good},
		{"a container that is a flag", "-rf", good},
		{"no container", "", good},
		{"an interface that leads out of /proc/sys", "pod1", "../all"},
		{"an interface with a colon", "pod1", "eth0:1"},
		{"an interface with a space", "pod1", "eth 0"},
		{"an interface that is too long", "pod1", "eth0123456789abc"},
		{"a pattern", "pod1", "eth%d"},
		{"no interface", "pod1", ""},
	} {
		conf, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": "tulle", "type": "tulle",
			"subnetFile": h.subnetFile, "ipam": map[string]string{"dataDir": h.dataDir}})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(pluginDir, "tulle"))
		cmd.Stdin = strings.NewReader(string(conf))
		cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+tt.id, "CNI_IFNAME="+tt.ifName, "CNI_NETNS="+p.path, "CNI_PATH="+pluginDir)
		var out []byte
		err = h.do(func() (err error) { out, err = cmd.Output(); return err })
		var told types.Error
		if err == nil {
			t.Errorf("%s: ADD succeeds: %s", tt.name, out)
		} else if json.Unmarshal(out, &told) != nil || told.Code != types.ErrInvalidEnvironmentVariables {
			t.Errorf("%s: ADD answers %s, want an error with code %d", tt.name, out, types.ErrInvalidEnvironmentVariables)
		}
	}
	h.wantNothing("names that cannot be")
	if len(linkNames(t, h.Handle)) > 1 {
		t.Errorf("links of the host: %v, want lo alone", linkNames(t, h.Handle))
	}
}

// The specification bounds neither: what is kept of a pod must be found by them all the same.
func TestLongNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	for _, tt := range []struct{ name, network, id string }{
		{"a container", "tulle", strings.Repeat("c", 3000)},
		{"a container as long as can be", "tulle", strings.Repeat("c", 120_000)},
		{"a network", strings.Repeat("n", 250), "pod1"},
	} {
		p := newPod(t, tt.id)
		list := h.network(tt.network, "1.1.0", allWishes)
		if err := h.refusal(list, p, "ADD"); err != nil {
			t.Fatalf("ADD with the name of %s: %v", tt.name, err)
		}
		if err := h.gc(list, p); err != nil {
			t.Errorf("GC with the name of %s: %v", tt.name, err)
		}
		if got := h.reserved(tt.network); len(got) != 1 {
			t.Errorf("with the name of %s reserved are %v after a GC that keeps it, want one address", tt.name, got)
		}
		if err := h.refusal(list, p, "DEL"); err != nil {
			t.Errorf("DEL with the name of %s: %v", tt.name, err)
		}
		if got := h.reserved(tt.network); len(got) > 0 {
			t.Errorf("with the name of %s still reserved: %v", tt.name, got)
		}
		h.wantNothing("DEL with the name of " + tt.name)
	}
}
