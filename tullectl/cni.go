package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func cniCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "cni",
		Short:   "put the CNI plugin where container runtimes look for it",
		Example: "  tullectl cni install --conflist /etc/tulle/10-tulle.conflist",
	}, cniInstallCommand())
}

// installedRow is what install did, as JSON tells it.
type installedRow struct {
	Installed []string `json:"installed"`
}

// cniInstall says what to put where.
type cniInstall struct {
	plugin, binDir    string
	conflist, confDir string
}

func cniInstallCommand() *cobra.Command {
	var i cniInstall
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "install the CNI plugin and its configuration on this host",
		Long: `install copies the plugin into the folder of CNI plugins and then, if one is
given, the configuration into that of configurations. Each file is there
whole, the old one or the new one, whenever a runtime looks, even if install is
killed. What is there already is not touched. Run it as an init container with
the host's folders mounted.`,
		Example: `  tullectl cni install --conflist /etc/tulle/10-tulle.conflist
  tullectl cni install --plugin /opt/cni/bin/tulle --bin-dir /host/opt/cni/bin`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := i.run()
			if asJSON {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), installedRow{append([]string{}, done...)}))
			}
			for _, path := range done {
				fmt.Fprintf(cmd.OutOrStdout(), "installed %s\n", path)
			}
			if err == nil && len(done) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "everything is there already")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&i.plugin, "plugin", besideUs("tulle"), "the plugin's `file`")
	cmd.Flags().StringVar(&i.binDir, "bin-dir", "/opt/cni/bin", "`folder` of CNI plugins")
	cmd.Flags().StringVar(&i.conflist, "conflist", "", "the configuration's `file`; its name decides which of several a runtime takes")
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.Flags().StringVar(&i.confDir, "conf-dir", "/etc/cni/net.d", "`folder` of CNI configurations")
	return cmd
}

// besideUs is a program in the folder that this one is in.
func besideUs(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// run returns the files that it has put in place. The configuration comes last:
// with it a runtime begins to call the plugin.
func (i cniInstall) run() (done []string, err error) {
	const program, text = 0o755, 0o644
	plugin, err := os.ReadFile(i.plugin)
	if err != nil {
		return nil, fmt.Errorf("read the plugin: %w", err)
	}
	var conflist []byte
	if i.conflist != "" {
		if conflist, err = os.ReadFile(i.conflist); err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		if err := checkConflist(conflist); err != nil {
			return nil, fmt.Errorf("%s is no configuration of a runtime, and nothing was installed: %w", i.conflist, err)
		}
	}
	put := func(path string, content []byte, mode os.FileMode) error {
		changed, err := replace(path, content, mode)
		if err != nil {
			return fmt.Errorf("install %s: %w", path, err)
		}
		if changed {
			done = append(done, path)
		}
		return nil
	}
	if err := put(filepath.Join(i.binDir, "tulle"), plugin, program); err != nil {
		return done, err
	}
	if conflist == nil {
		return done, nil
	}
	return done, put(filepath.Join(i.confDir, filepath.Base(i.conflist)), conflist, text)
}

// checkConflist finds what would make a runtime pass the file over, without a word
// that reaches the operator.
func checkConflist(text []byte) error {
	var list struct {
		Version string `json:"cniVersion"`
		Name    string `json:"name"`
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	var faults []error
	if list.Version == "" {
		faults = append(faults, errors.New("it has no cniVersion"))
	}
	if list.Name == "" {
		faults = append(faults, errors.New("it has no name"))
	}
	if len(list.Plugins) == 0 {
		faults = append(faults, errors.New("it has no plugins"))
	}
	for n, p := range list.Plugins {
		if p.Type == "" {
			faults = append(faults, fmt.Errorf("plugin %d has no type", n+1))
		}
	}
	return errors.Join(faults...)
}

// replace puts a file in place by a rename and reports whether that was needed. A
// program that runs from the old file goes on with it.
func replace(path string, content []byte, mode os.FileMode) (changed bool, err error) {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	// A runtime takes none of these for a plugin or for a configuration.
	pattern := "." + name + ".new-"
	if err := sweep(dir, pattern); err != nil {
		return false, err
	}
	there, err := os.ReadFile(path)
	if info, statErr := os.Lstat(path); err == nil && statErr == nil && string(there) == string(content) && info.Mode() == mode {
		return false, nil
	}
	f, err := os.CreateTemp(dir, pattern+"*")
	if err != nil {
		return false, err
	}
	_, err = f.Write(content)
	// Synced before it is renamed: after a crash of the host the name must not
	// be that of an empty file.
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return false, errors.Join(err, os.Remove(f.Name()))
	}
	return true, nil
}

// sweep removes what installs that were killed have left. One that runs at this
// moment fails by it, and is tried again.
func sweep(dir, beginning string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), beginning) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
