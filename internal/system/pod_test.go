package system

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// pod is a network namespace on a host, attached by the plugin with the example
// of its configuration.
type pod struct {
	host *host
	addr string
}

const podConflist = "/etc/cni/net.d/10-tulle.conflist"

// cni runs the plugin as a runtime does.
func cni(h *host, verb string) string {
	h.t.Helper()
	return h.sh(`config=$(tr -d '\n' < ` + podConflist + ` | sed 's/.*"plugins": *\[ *{/{"cniVersion": "1.0.0", "name": "tulle", /; s/} *\] *} *$/}/')
		echo "$config" | CNI_COMMAND=` + verb + ` CNI_CONTAINERID=pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/tulle`)
}

func addPod(h *host) pod {
	h.t.Helper()
	h.sh("ip netns add pod && ip -n pod link set lo up")
	cni(h, "ADD")
	addr := h.sh("ip -n pod -4 -o address show eth0 | sed 's|.* inet \\([0-9.]*\\)/.*|\\1|'")
	return pod{h, addr}
}

func (p pod) remove() {
	p.host.t.Helper()
	cni(p.host, "DEL")
	p.host.sh("ip netns delete pod")
}

// reaches sends a few packets, which must all be answered.
func (p pod) reaches(q pod) {
	p.host.t.Helper()
	p.host.until("its pod reaches "+q.addr, func() error {
		_, err := p.host.try("ip", "netns", "exec", "pod", "ping", "-c", "3", "-i", "0.01", "-W", "2", q.addr)
		return err
	})
}

// pings is a ping that runs while something happens.
type pings struct {
	pod  pod
	cmd  *exec.Cmd
	text *strings.Builder
}

const pingPid = "/run/ping.pid"

// ping starts to send a hundred packets a second.
func (p pod) ping(to pod) pings {
	p.host.t.Helper()
	r := pings{pod: p, text: &strings.Builder{}}
	r.cmd = p.host.command(context.Background(), "sh", "-c",
		fmt.Sprintf("ip netns exec pod ping -q -i 0.01 %s & echo $! > %s; wait $!", to.addr, pingPid))
	r.cmd.Stdout, r.cmd.Stderr = r.text, r.text
	if err := r.cmd.Start(); err != nil {
		p.host.t.Fatal(err)
	}
	return r
}

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// lostNone ends the ping, and fails unless all packets were answered, but the
// last, which may be on its way.
func (r pings) lostNone(while string) {
	h := r.pod.host
	h.t.Helper()
	h.sh("kill -INT $(cat " + pingPid + ")")
	_ = r.cmd.Wait() // its status says less than its text
	m := pingSummary.FindStringSubmatch(r.text.String())
	if m == nil {
		h.t.Fatalf("%s: no summary of ping:\n%s", while, r.text)
	}
	var sent, received int
	if _, err := fmt.Sscan(m[1]+" "+m[2], &sent, &received); err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("%s: %d of %d packets answered", while, received, sent)
	if sent < 2 || received < sent-1 {
		h.t.Errorf("%s: %d packets lost of %d", while, sent-received, sent)
	}
}
