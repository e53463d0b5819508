package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

const procSys = "/proc/sys"

func dumpSysctls(have, want backend.State) error {
	for key, e := range want {
		if key.Kind != backend.KindSysctl {
			continue
		}
		s := e.(backend.Sysctl)
		text, err := os.ReadFile(filepath.Join(procSys, s.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.Optional:
		case err != nil:
			return err
		default:
			s.Value = strings.TrimSpace(string(text))
		}
		have.Add(s)
	}
	return nil
}

func setSysctl(c backend.Change) error {
	if c.Want == nil {
		return nil
	}
	s := c.Want.(backend.Sysctl)
	err := os.WriteFile(filepath.Join(procSys, s.Name), []byte(s.Value), 0o644)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("not allowed here; set %s = %s in /etc/sysctl.d: %w", strings.ReplaceAll(s.Name, "/", "."), s.Value, err)
	}
	return err
}
