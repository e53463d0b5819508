package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountHost gives the host files of its own where tulle and iptables keep
// theirs. What it mounts is seen by this mount namespace alone.
func mountHost(o InitOptions) error {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV
	// Directories that the mounts below may hide are reached through these.
	dir, err := os.Open(o.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	bin, err := os.Open(o.Bin)
	if err != nil {
		return err
	}
	defer bin.Close()
	open := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"tmpfs", "/run", "tmpfs", quiet},
		{"tmpfs", "/var/lib", "tmpfs", quiet},
		{open(dir), hostDir, "", unix.MS_BIND},
		{open(bin), hostBin, "", unix.MS_BIND},
		{"proc", "/proc", "proc", quiet | unix.MS_NOEXEC},
		{"sysfs", "/sys", "sysfs", quiet | unix.MS_NOEXEC},
	} {
		data := ""
		if m.kind == "tmpfs" {
			data = "mode=0755"
		}
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return os.Mkdir(podNets, 0o755)
}
