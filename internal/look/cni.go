package look

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"tulle/internal/doctor"
)

// Where container runtimes listen, and look.
var (
	runtimes = []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock", "/run/k3s/containerd/containerd.sock"}
	cniConfs = "/etc/cni/net.d"
	cniBin   = "/opt/cni/bin/tulle"
)

// CNI looks at what container runtimes of this host would do.
func CNI() doctor.CNI {
	c := doctor.CNI{Dir: cniConfs, Path: cniBin}
	for _, path := range runtimes {
		if _, err := os.Stat(path); err == nil {
			c.Runtime = path
			break
		}
	}
	if info, err := os.Stat(cniBin); err != nil {
		c.Plugin = "it is not there"
	} else if unix.Access(cniBin, unix.X_OK) != nil || !info.Mode().IsRegular() {
		c.Plugin = "it can't be run"
	}
	entries, _ := os.ReadDir(cniConfs) // none: no configuration
	for _, e := range entries {        // in the order of their names, as runtimes look at them
		if ext := filepath.Ext(e.Name()); slices.Contains([]string{".conf", ".conflist", ".json"}, ext) {
			c.Confs = append(c.Confs, conf(filepath.Join(cniConfs, e.Name())))
		}
	}
	return c
}

func conf(path string) doctor.Conf {
	c := doctor.Conf{File: path}
	text, err := os.ReadFile(path)
	if err != nil {
		c.Err = err.Error()
		return c
	}
	var list struct {
		Name, Type string
		Plugins    []struct{ Type string }
	}
	if err := json.Unmarshal(text, &list); err != nil {
		c.Err = "it is not JSON: " + err.Error()
		return c
	}
	if list.Type != "" {
		c.Plugins = append(c.Plugins, list.Type)
	}
	for _, p := range list.Plugins {
		c.Plugins = append(c.Plugins, p.Type)
	}
	if len(c.Plugins) == 0 || list.Name == "" {
		c.Err = "it names no network or no plugin"
	}
	return c
}
