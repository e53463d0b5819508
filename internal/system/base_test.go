package system

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// release is the distribution that hosts run, and packages are what they have
// before tulle's package is installed: what that depends on, the etcd that one of
// them runs, and what the tests look with.
const release = "bookworm"

var packages = []string{
	"systemd", "systemd-sysv", "dbus", "udev", "ca-certificates", "iptables", "kmod",
	"etcd-server", "etcd-client", "openssl",
	"iproute2", "iputils-ping", "nftables", "procps",
	"rpm", "network-manager",
}

// unwanted are units that would change the machine's kernel, or have no use here.
var unwanted = []string{
	"systemd-udev-trigger.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket", "systemd-udevd.service",
	"systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service", "etcd.service",
	"NetworkManager.service", "NetworkManager-wait-online.service", "NetworkManager-dispatcher.service",
	"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer", "getty.target",
}

// cacheDir is where the file system is kept for the next run.
const cacheDir = "/var/cache/tulle-system-test"

// base is the file system that hosts begin with, which is made once and then only
// read.
func base(t *testing.T) string {
	t.Helper()
	sum := sha256.Sum256([]byte(fmt.Sprint(release, packages, unwanted)))
	path := filepath.Join(cacheDir, fmt.Sprintf("%s-%x", release, sum[:6]))
	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(cacheDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	begin := time.Now()
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		t.Fatal(err)
	}
	mask := "for unit in " + strings.Join(unwanted, " ") + `; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done`
	hosts := `: > "$1/etc/machine-id"; rm -f "$1/etc/hostname"`
	text, err := exec.CommandContext(t.Context(), "mmdebstrap", "--variant=minbase", "--include="+strings.Join(packages, ","),
		"--customize-hook="+mask, "--customize-hook="+hosts, release, temp).CombinedOutput()
	if err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, text)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %s in %s", path, time.Since(begin).Round(time.Second))
	return path
}
