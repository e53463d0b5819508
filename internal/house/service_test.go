package house

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/internal/lab"
)

// A host of a lab has no systemd; systemctl does for a document what systemd would
// do with the units of tulled and of Debian's etcd, of Type=notify and with their
// settings in /etc/default: it starts the program of the service's name with these
// and waits until it says that it is ready. That the unit itself does so is tested
// elsewhere, with systemd.
func systemctl(ctx context.Context, h *lab.Host, words []string) error {
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "--now" })
	if len(words) != 2 {
		return fmt.Errorf("systemctl %s: want a verb and a service", words)
	}
	verb, service := words[0], words[1]
	switch verb {
	case "enable", "start":
		return startService(ctx, h, service)
	case "restart", "stop", "disable":
		if err := h.Signal(ctx, service, unix.SIGTERM); err == nil {
			if _, err := h.Wait(ctx, service); err != nil {
				return err
			}
		} else if verb != "restart" {
			return err
		}
		if verb != "restart" {
			return nil
		}
		return startService(ctx, h, service)
	}
	return fmt.Errorf("systemctl %s: no such verb here", verb)
}

// install puts on the hosts what packages bring, but for the programs, which all
// hosts have: Debian's etcd its user, and ours the plugin.
func install(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, h := range l.Hosts {
		script := "useradd --system --no-create-home etcd"
		if h.Role == lab.RoleNode {
			script = "install -D /run/lab/bin/tulle /opt/cni/bin/tulle"
		}
		if _, err := h.Exec(t.Context(), "sh", "-ec", script); err != nil {
			t.Fatal(err)
		}
	}
}

// startTime is how long a service may take to say that it is ready.
const startTime = time.Minute

func startService(ctx context.Context, h *lab.Host, service string) error {
	socket := "/run/notify-" + service
	if err := os.RemoveAll(h.Path(socket)); err != nil {
		return err
	}
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.Path(socket), Net: "unixgram"})
	if err != nil {
		return err
	}
	defer listener.Close()
	script := fmt.Sprintf("set -a; [ ! -e /etc/default/%[1]s ] || . /etc/default/%[1]s; NOTIFY_SOCKET=%[2]s exec %[1]s", service, socket)
	if _, err := h.Keep(ctx, lab.StartArgs{Name: service, Args: []string{"sh", "-c", script}}); err != nil {
		return err
	}
	if err := listener.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	go func() { // which ends, at the latest, with the host
		if _, err := h.Wait(ctx, service); err == nil {
			_ = listener.SetReadDeadline(time.Now())
		}
	}()
	for message := make([]byte, 4096); ; {
		n, err := listener.Read(message)
		if err != nil {
			log, _ := os.ReadFile(h.Log(service))
			return errors.Join(fmt.Errorf("%s: %s does not say that it is ready: %w", h.Name, service, err), fmt.Errorf("its log:\n%s", log))
		}
		if slices.Contains(strings.Fields(string(message[:n])), "READY=1") {
			return nil
		}
	}
}

// scp copies files of a host to another one: FILE... HOST:PLACE.
func scp(l *lab.Lab, from *lab.Host, words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("scp %s: want files and a place", words)
	}
	name, place, ok := strings.Cut(words[len(words)-1], ":")
	to := l.Host(name)
	if !ok || to == nil || from == nil {
		return fmt.Errorf("scp: %s is no place on a host of the lab", words[len(words)-1])
	}
	for _, file := range words[:len(words)-1] {
		text, err := os.ReadFile(from.Path(file))
		if err != nil {
			return err
		}
		info, err := os.Stat(from.Path(file))
		if err != nil {
			return err
		}
		target := to.Path(place)
		if strings.HasSuffix(place, "/") {
			target = filepath.Join(target, path.Base(file))
		}
		if err := os.WriteFile(target, text, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
