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

func (k *Kernel) dumpSysctls(have, want backend.State) error {
	k.settings = nil
	for key, e := range want {
		if key.Kind != backend.KindSysctl {
			continue
		}
		s := e.(backend.Sysctl)
		if s.Ours {
			k.settings = append(k.settings, s)
		}
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
	return writeSysctl(c.Want.(backend.Sysctl))
}

// prepare sets what was wanted of a device when the settings were read last. It
// is for a device just made, before it is up: some of it comes too late then.
func (k *Kernel) prepare(dev string) error {
	var errs []error
	for _, s := range k.settings {
		if s.Ours && s.Dev() == dev {
			if err := writeSysctl(s); err != nil {
				errs = append(errs, fmt.Errorf("set %s: %w", s, err))
			}
		}
	}
	return errors.Join(errs...)
}

func writeSysctl(s backend.Sysctl) error {
	err := os.WriteFile(filepath.Join(procSys, s.Name), []byte(s.Value), 0o644)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("not allowed here; set %s = %s in /etc/sysctl.d: %w", s.Name, s.Value, err)
	}
	return err
}
