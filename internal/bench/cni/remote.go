package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

	"tulle/internal/lab"
)

// fromAnotherHost is the time from ADD's return to the first answer that a pod on
// another host gets from the new pod, through a lab's underlay and VXLAN. The
// reference plugins have no overlay to be measured in.
func fromAnotherHost(dir string, rounds int) (row, error) {
	r := row{what: "ADD's return to the first reply on another host, ms"}
	ctx := context.Background()
	for name, path := range map[string]string{"tulled": "tulle/daemon", "tullectl": "tulle/tullectl"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), path).CombinedOutput(); err != nil {
			return r, fmt.Errorf("build %s: %w\n%s", path, err, out)
		}
	}
	l, err := lab.Up(ctx, lab.Options{Nodes: 2, Pods: 1, Bin: dir})
	if err != nil {
		return r, err
	}
	var waits []time.Duration
	for round := range rounds {
		var wait time.Duration
		if wait, err = remoteReply(l.Nodes()[1], l.Pods[0], fmt.Sprint("bench", round)); err != nil {
			break
		}
		waits = append(waits, wait)
	}
	if _, down := l.Down(ctx); err == nil {
		err = down
	}
	if err != nil {
		return r, err
	}
	r.values = []string{ms(median(waits)), "-"}
	return r, nil
}

// remoteReply attaches a new pod on the host and asks it from the other pod.
func remoteReply(h *lab.Host, asker *lab.Pod, name string) (time.Duration, error) {
	n, err := ns.TempNetNS()
	if err != nil {
		return 0, err
	}
	p := &pod{ns: n, id: name}
	defer p.close()
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", n.Fd()))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	call := func(verb string) error {
		return h.Do(func() error {
			cmd := exec.Command("/run/lab/bin/tulle")
			cmd.Stdin = strings.NewReader(`{"cniVersion": "1.0.0", "name": "tulle", "type": "tulle"}`)
			cmd.ExtraFiles = []*os.File{file} // the host's processes have no path to it
			cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+name, "CNI_IFNAME=eth0",
				"CNI_NETNS=/proc/self/fd/3", "CNI_PATH=/run/lab/bin")
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", verb, err, out)
			}
			if verb == "ADD" {
				p.result = out
			}
			return nil
		})
	}
	if err := call("ADD"); err != nil {
		return 0, err
	}
	addr, err := p.addr()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := asker.Net(func() error { return ask(addr, start) }); err != nil {
		return 0, err
	}
	return time.Since(start), call("DEL")
}
