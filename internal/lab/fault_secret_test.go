package lab

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPasswordIsNeverTold: whoever gives etcd's password by a file or in the environment
// finds it nowhere else, whether it is right or wrong, and whatever becomes of etcd.
func TestPasswordIsNeverTold(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	v := l.Nodes()[0]
	const right, wrong = "R1ght-horse_battery", "Wr0ng-staple_correct"
	stopDaemon(t, v, unix.SIGTERM)
	l.etcd(t, "auth/user/add", map[string]string{"name": "root", "password": right}, nil)
	l.etcd(t, "auth/role/add", map[string]string{"name": "root"}, nil)
	l.etcd(t, "auth/user/grant", map[string]string{"user": "root", "role": "root"}, nil)
	l.etcd(t, "auth/enable", struct{}{}, nil)

	const file = "/run/password"
	give := map[string]func(t *testing.T, password string) []string{ // variables
		"file": func(t *testing.T, password string) []string {
			if err := os.WriteFile(v.Path(file), []byte(password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"TULLED_ETCD_PASSWORD_FILE=" + file}
		},
		"environment": func(_ *testing.T, password string) []string { return []string{"TULLED_ETCD_PASSWORD=" + password} },
	}
	for by, give := range give {
		for _, password := range []string{right, wrong} {
			t.Run(fmt.Sprintf("%s by %s", map[bool]string{true: "right", false: "wrong"}[password == right], by), func(t *testing.T) {
				log := v.journal(t)
				env := append([]string{"env", "TULLED_ETCD_USERNAME=root", "TULLED_ETCD_ENDPOINTS=" + l.EtcdEndpoints(), "TULLED_LOG_LEVEL=debug"}, give(t, password)...)
				// told gathers all that somebody can see, by where it was seen.
				told := map[string]string{}
				pid, err := v.Keep(t.Context(), StartArgs{Name: daemonName, Args: append(env, "tulled")})
				if err != nil {
					t.Fatal(err)
				}
				heals(t, func() error { // env has become tulled, or that has ended already
					text, err := v.Exec(t.Context(), "cat", fmt.Sprintf("/proc/%d/cmdline", pid))
					if err == nil && !strings.HasPrefix(text, "tulled") {
						err = fmt.Errorf("process %d is %q", pid, text)
					} else if password == wrong {
						err = nil
					}
					told["ps"] = text
					return err
				})
				if password == right {
					if err := v.WaitReady(t.Context()); err != nil {
						t.Fatal(err)
					}
					defer stopDaemon(t, v, unix.SIGTERM)
					heals(t, log.tells(t, "lease held")) // it may be ready before, from its state file
					if err := l.StopEtcd(t.Context(), unix.SIGKILL); err != nil {
						t.Fatal(err)
					}
					heals(t, log.tells(t, "no connection to etcd"))
					if err := l.StartEtcd(t.Context()); err != nil {
						t.Fatal(err)
					}
					heals(t, log.tells(t, "connected to etcd again"))
					for _, path := range []string{"/state", "/metrics", "/readyz", "/healthz"} {
						body, err := get(t.Context(), v.Client(), daemonStatus+path)
						if err != nil {
							t.Errorf("%s: %v", path, err)
						}
						told[path] = string(body)
					}
				} else {
					wantExit(t, v)
					heals(t, log.tells(t, "wrong user name or password"))
				}
				for _, command := range []string{"status", "lease list", "network get", "doctor", "lease list --etcd-prefix x/", "lease list --etcd-endpoints http://root:" + password + "@192.0.2.1:2379"} {
					told[command] = seen(t, v, append(append(env, "tullectl"), strings.Fields(command)...)...)
				}
				if got, want := told["lease list"], "10.244."; password == right && !strings.Contains(got, want) {
					t.Errorf("tullectl lease list prints %q, want a lease", got)
				}
				if got, want := told["lease list"], "wrong user name or password"; password == wrong && !strings.Contains(got, want) {
					t.Errorf("tullectl lease list prints %q, want %q", got, want)
				}
				if told["log"] = log.text(t); !strings.Contains(told["log"], "starting") {
					t.Errorf("the log is %q", told["log"])
				}
				for _, dir := range []string{"/run", "/var/lib/tulle"} {
					err := filepath.WalkDir(v.Path(dir), func(path string, e fs.DirEntry, err error) error {
						if path == v.Path(hostBin) {
							return fs.SkipDir
						}
						if err != nil || !e.Type().IsRegular() || path == v.Path(file) {
							return nil // it went away, or is where the password belongs
						}
						if text, err := os.ReadFile(path); err == nil {
							told[path] = string(text)
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
				for where, text := range told {
					if strings.Contains(text, password) {
						t.Errorf("%s tells the password:\n%s", where, text)
					}
				}
			})
		}
	}
}

// seen is what a command on a host prints, be it an error.
func seen(t *testing.T, h *Host, args ...string) string {
	t.Helper()
	text, err := h.Exec(t.Context(), args...)
	if err == nil {
		return text
	}
	return text + strings.ReplaceAll(err.Error(), strings.Join(args, " "), "COMMAND")
}
