package look

import (
	"os"
	"path/filepath"
)

// Where systemd shows which units run, and keeps which ones are wanted.
var (
	unitGroup = "/sys/fs/cgroup/system.slice/tulled.service"
	unitWants = []string{"/etc/systemd/system/*/tulled.service", "/usr/lib/systemd/system/*/tulled.service"}
)

// Unasked reports whether systemd runs tulled, and nothing wants it at boot.
func Unasked() bool {
	if _, err := os.Stat(unitGroup); err != nil {
		return false
	}
	for _, pattern := range unitWants {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return false
		}
	}
	return true
}
