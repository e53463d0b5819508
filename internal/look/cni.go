package look

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tulle/internal/doctor"
)

// Where container runtimes listen, and look unless their configuration names
// other folders. That of containerd does with Debian's package.
var (
	runtimes       = []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock", "/run/k3s/containerd/containerd.sock"}
	cniConfs       = "/etc/cni/net.d"
	cniBin         = "/opt/cni/bin/tulle"
	containerdConf = "/etc/containerd/config.toml"
)

// CNI looks at what container runtimes of this host would do.
func CNI() doctor.CNI {
	c := doctor.CNI{Dir: cniConfs, Path: cniBin}
	text, _ := os.ReadFile(containerdConf) // none: the defaults
	for i, path := range runtimes {
		// That of Docker attaches no pods.
		if _, err := os.Stat(path); err == nil && (i > 0 || !slices.ContainsFunc(folders(string(text), "disabled_plugins"), isCRI)) {
			c.Runtime = path
			break
		}
	}
	if c.Runtime == runtimes[0] {
		for _, dir := range folders(string(text), "bin_dirs?") {
			if file := filepath.Join(dir, "tulle"); c.Config == "" || unusable(file) == "" {
				c.Path, c.Config = file, containerdConf
			}
		}
		for _, dir := range folders(string(text), "conf_dir") {
			c.Dir = dir
		}
	}
	if c.Plugin = unusable(c.Path); c.Plugin != "" && c.Path != cniBin && unusable(cniBin) == "" {
		c.There = cniBin
	}
	entries, _ := os.ReadDir(c.Dir) // none: no configuration
	for _, e := range entries {     // in the order of their names, as runtimes look at them
		if ext := filepath.Ext(e.Name()); slices.Contains([]string{".conf", ".conflist", ".json"}, ext) {
			c.Confs = append(c.Confs, conf(filepath.Join(c.Dir, e.Name())))
		}
	}
	return c
}

// isCRI reports whether a plugin of containerd is the one that Kubernetes asks.
func isCRI(plugin string) bool { return plugin == "cri" || plugin == "io.containerd.grpc.v1.cri" }

// folders are those that a setting of containerd's names: a text, or a list.
func folders(toml, setting string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^\s*`+setting+`\s*=\s*(\[[^\]]*\]|\S+)`).FindAllStringSubmatch(toml, -1) {
		list = append(list, strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune("[]\"', \t\n", r) })...)
	}
	return list
}

// unusable says why a program can't be run, or nothing.
func unusable(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "it is not there"
	case unix.Access(path, unix.X_OK) != nil || !info.Mode().IsRegular():
		return "it can't be run"
	}
	return ""
}

func conf(path string) doctor.Conf {
	c := doctor.Conf{File: path}
	text, err := os.ReadFile(path)
	if err != nil {
		c.Err = err.Error()
		return c
	}
	type plugin struct{ Type, Bridge, SubnetFile string }
	var list struct {
		Name string
		plugin
		Plugins []plugin
	}
	if err := json.Unmarshal(text, &list); err != nil {
		c.Err = "it is not JSON: " + err.Error()
		return c
	}
	for _, p := range append([]plugin{list.plugin}, list.Plugins...) {
		if p.Type != "" {
			c.Plugins = append(c.Plugins, p.Type)
		}
		if p.Type == "tulle" {
			c.Bridge, c.SubnetFile = p.Bridge, p.SubnetFile
		}
	}
	if len(c.Plugins) == 0 || list.Name == "" {
		c.Err = "it names no network or no plugin"
	}
	return c
}
