package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
)

// contender is a way to attach pods, with a node of its own: a namespace and
// directories.
type contender struct {
	name    string
	dir     string // of binaries
	plugins []string
	state   string
	node    ns.NetNS
	next    int
}

func (c *contender) open() error {
	var err error
	c.state = filepath.Join(c.dir, "state-"+c.name)
	if err = os.MkdirAll(c.state, 0o755); err != nil {
		return err
	}
	file := "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/22\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if err = os.WriteFile(filepath.Join(c.state, "subnet.env"), []byte(file), 0o644); err != nil {
		return err
	}
	c.node, err = ns.TempNetNS()
	return err
}

func (c *contender) close() { _ = c.node.Close() }

// conf is what the runtime hands to the first plugin; ports are put in for the one
// that maps them.
func (c *contender) conf(port int) map[string]any {
	if c.name == "tulle" {
		conf := map[string]any{
			"cniVersion": "1.0.0", "name": "bench", "type": "tulle", "subnetFile": filepath.Join(c.state, "subnet.env"),
			"ipam": map[string]any{"dataDir": filepath.Join(c.state, "networks")},
		}
		if port != 0 {
			conf["capabilities"], conf["runtimeConfig"] = map[string]any{"portMappings": true}, mappings(port)
		}
		return conf
	}
	return map[string]any{
		"cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "cni0", "mtu": 1450, "hairpinMode": true, "isDefaultGateway": true,
		"ipam": map[string]any{"type": "host-local", "dataDir": filepath.Join(c.state, "networks"),
			"ranges": [][]map[string]string{{{"subnet": "10.244.0.0/22"}}}, "routes": []map[string]string{{"dst": "10.244.0.0/16"}}},
	}
}

func mappings(port int) map[string]any {
	return map[string]any{"portMappings": []map[string]any{{"hostPort": port, "containerPort": 80, "protocol": "tcp"}}}
}

// pod is a namespace to attach.
type pod struct {
	ns     ns.NetNS
	id     string
	port   int // 0: none
	result json.RawMessage
}

func (c *contender) pod(port int) (*pod, error) {
	n, err := ns.TempNetNS()
	c.next++
	return &pod{ns: n, id: fmt.Sprint("pod", c.next), port: port}, err
}

func (p *pod) close() { _ = p.ns.Close() }

func (p *pod) addr() (string, error) {
	var r current.Result
	if err := json.Unmarshal(p.result, &r); err != nil {
		return "", err
	}
	if len(r.IPs) == 0 {
		return "", errors.New("no address in the result")
	}
	return r.IPs[0].Address.IP.String(), nil
}

// cost is what a verb took: wall time, and the CPU time of the plugin and of all
// programs that it started.
type cost struct{ wall, cpu time.Duration }

// call runs a verb for a pod, plugin after plugin as a runtime does.
func (c *contender) call(verb string, p *pod) (cost, error) {
	confs := []map[string]any{c.conf(0)}
	if c.name == "tulle" {
		confs[0] = c.conf(p.port)
	} else if p.port != 0 {
		confs = append(confs, map[string]any{"cniVersion": "1.0.0", "name": "bench", "type": "portmap",
			"capabilities": map[string]any{"portMappings": true}, "runtimeConfig": mappings(p.port)})
	}
	if verb == "DEL" && len(confs) == 2 {
		confs[0], confs[1] = confs[1], confs[0]
	}
	var sum cost
	for _, conf := range confs {
		if p.result != nil {
			conf["prevResult"] = p.result
		}
		one, out, err := c.exec(verb, p, conf)
		if err != nil {
			return sum, fmt.Errorf("%s of %s by %s: %w: %s", verb, p.id, conf["type"], err, out)
		}
		sum.wall += one.wall
		sum.cpu += one.cpu
		if verb == "ADD" {
			p.result = out
		}
	}
	return sum, nil
}

func (c *contender) exec(verb string, p *pod, conf map[string]any) (cost, []byte, error) {
	text, err := json.Marshal(conf)
	if err != nil {
		return cost{}, nil, err
	}
	cmd := exec.Command(filepath.Join(c.dir, conf["type"].(string)))
	cmd.Stdin = bytes.NewReader(text)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.id, "CNI_IFNAME=eth0", "CNI_PATH="+c.dir,
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), p.ns.Fd()))
	var spent cost
	var out []byte
	err = c.node.Do(func(ns.NetNS) error {
		start := time.Now()
		var err error
		out, err = cmd.Output()
		spent.wall = time.Since(start)
		return err
	})
	if cmd.ProcessState != nil {
		spent.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && strings.TrimSpace(string(out)) == "" {
		out = exit.Stderr
	}
	return spent, out, err
}
