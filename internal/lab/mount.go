package lab

import (
	"fmt"
	"os"
	"slices"

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

	const tmpfs = "mode=0755"
	mounts := []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"tmpfs", "/run", "tmpfs", quiet, tmpfs},
		{"tmpfs", "/var/lib", "tmpfs", quiet, tmpfs},
		{open(dir), hostDir, "", unix.MS_BIND, ""},
		{open(bin), hostBin, "", unix.MS_BIND, ""},
		{"proc", "/proc", "proc", quiet | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", quiet | unix.MS_NOEXEC, ""},
	}
	for _, m := range mounts {
		if m.target == "/var/lib" && slices.Contains(o.Own, m.target) {
			continue // a copy, and not an empty one
		}
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	for i, dir := range o.Own {
		if err := copyOnWrite(dir, fmt.Sprintf("%s/%d", ownDirs, i)); err != nil {
			return err
		}
	}
	return os.Mkdir(podNets, 0o755)
}

// copyOnWrite gives the host a copy of a folder of the machine. What it writes
// there is kept in another folder.
func copyOnWrite(dir, written string) error {
	upper, work := written+"/upper", written+"/work"
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount a copy of %s: %w", dir, err)
	}
	return nil
}
