package look

import (
	"os"
	"path/filepath"
	"testing"
)

// TestContainerdLooksElsewhere: the folders that containerd's configuration names.
func TestContainerdLooksElsewhere(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"containerd.sock": 0o600, "opt/tulle": 0o755, "second/tulle": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	set := func(v *string, value string) {
		was := *v
		t.Cleanup(func() { *v = was })
		*v = value
	}
	all := runtimes
	t.Cleanup(func() { runtimes = all })
	runtimes = []string{dir + "/containerd.sock"}
	set(&cniConfs, dir)
	set(&cniBin, dir+"/opt/tulle")
	set(&containerdConf, dir+"/config.toml")
	if err := os.WriteFile(containerdConf, []byte("disabled_plugins = [\"cri\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := CNI(); c.Runtime != "" {
		t.Errorf("Docker's containerd is taken for a runtime of pods: %s", c.Runtime)
	}
	for _, tt := range []struct{ name, toml, path, there, confs string }{
		{"none", "", dir + "/opt/tulle", "", dir},
		{"the default", "[cni]\n  bin_dir = \"" + dir + "/opt\"\n", dir + "/opt/tulle", "", dir},
		{"as Debian has it", "[cni]\n  bin_dir = \"/nowhere/cni\"\n  conf_dir = \"/nowhere/net.d\"\n", "/nowhere/cni/tulle", dir + "/opt/tulle", "/nowhere/net.d"},
		{"several folders", "bin_dir = ''\nbin_dirs = ['/nowhere/cni',\n '" + dir + "/second']\n", dir + "/second/tulle", "", dir},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(containerdConf, []byte(tt.toml), 0o600); err != nil {
				t.Fatal(err)
			}
			c := CNI()
			if c.Path != tt.path || c.There != tt.there || c.Dir != tt.confs {
				t.Errorf("the plugin at %s, there at %q, configurations in %s; want %s, %q, %s", c.Path, c.There, c.Dir, tt.path, tt.there, tt.confs)
			}
			if there := c.Plugin == ""; there != (tt.there == "") {
				t.Errorf("plugin: %q", c.Plugin)
			}
		})
	}
}
