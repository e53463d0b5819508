package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// counters are what changes by itself in the output of iptables-save and ip.
var counters = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]| expires \d+sec`)

// machineState is all of the machine's network and mounts that a lab could touch.
func machineState() (map[string]string, error) {
	state := map[string]string{}
	for _, command := range []string{"ip -o link", "ip -o address", "ip route", "ip -6 route", "ip rule", "ip netns", "iptables-save", "ip6tables-save"} {
		args := strings.Fields(command)
		if _, err := exec.LookPath(args[0]); err != nil {
			continue // then nothing of the machine can be run to read it, nor of the lab to write it
		}
		text, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil && os.Geteuid() == 0 {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		state[command] = counters.ReplaceAllString(string(text), "")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	state["mounts"] = string(mounts)
	for _, dir := range []string{"/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/bridge"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if err == nil {
				state[path] = string(text)
			}
			return nil // some cannot be read by anybody
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	state["ip_forward"] = string(forward)
	return state, err
}

// machineChange tells what differs from before. It looks again for a while:
// tests of other packages may have something mounted for a moment.
func machineChange(before map[string]string) string {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		now, err := machineState()
		if err != nil {
			return err.Error() + "\n"
		}
		var diff strings.Builder
		for what, text := range now {
			if was := before[what]; was != text {
				fmt.Fprintf(&diff, "%s:\n%s\nbefore:\n%s\n", what, text, was)
			}
		}
		if diff.Len() == 0 || time.Now().After(deadline) {
			return diff.String()
		}
	}
}
