package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tulle/internal/status"
	"tulle/subnet"
)

// Faults are done to real hosts, and a probe between two pods shows what they
// cost. How long it takes until all is right again is told and not tested: a
// busy machine has its own times.

// healTime is how long it may take at most until all is right again.
const healTime = 15 * time.Second

// heals polls until ok returns nil, and returns how long that took.
func heals(t *testing.T, ok func() error) time.Duration {
	t.Helper()
	return healsWithin(t, healTime, ok)
}

// healsWithin is heals for what may take another time.
func healsWithin(t *testing.T, most time.Duration, ok func() error) time.Duration {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(pollEvery) {
		err := ok()
		took := time.Since(begin)
		if err == nil {
			return took
		}
		if took > most {
			t.Errorf("not right after %s: %v", most, err)
			return took
		}
	}
}

// victim is the node that faults are done to, and the pods that feel them.
type victim struct {
	*Host
	lab       *Lab
	near, far *Pod // on the node, and on another one
	vars      string
}

func newVictim(t *testing.T, l *Lab) victim {
	t.Helper()
	near, far := l.Pods[0], l.Pods[len(l.Pods)-1]
	v := victim{Host: near.host, lab: l, near: near, far: far}
	own, peer := l.lease(t, near.host), l.lease(t, far.host)
	dst := peer.Subnets[subnet.IPv4]
	gw := subnet.Gateway(dst).As4()
	v.vars = fmt.Sprintf("MAC=%s PEER=%s DST=%s GW=%s ID=%d OWN=%s\n", macOf(peer), peer.Addrs[subnet.IPv4], dst, subnet.Gateway(dst),
		uint32(gw[0])<<24|uint32(gw[1])<<16|uint32(gw[2])<<8|uint32(gw[3]), subnet.Gateway(own.Subnets[subnet.IPv4]))
	return v
}

var macText = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// macOf is the MAC address of a lease's VXLAN device.
func macOf(l subnet.Lease) string { return macText.FindString(l.Data[subnet.IPv4]) }

// sh runs a shell script in the node. Variables there name the rows that lead
// to the far pod's node.
func (v victim) sh(t *testing.T, script string) string {
	t.Helper()
	text, err := v.ExecInput(t.Context(), v.vars+script, "sh", "-eu")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rowsScript prints what tulled holds in the kernel, and what could be in its way.
const rowsScript = `
ip -o -d link show tulle.1
ip -o -4 address show dev tulle.1
ip route
ip nexthop
ip neigh show dev tulle.1 nud permanent
bridge fdb show dev tulle.1
nft -s list table inet tulle.1 | grep -v packets
echo bridge $(ip -o link show cni0 | grep -o 'mtu [0-9]*')
echo forward $(cat /proc/sys/net/ipv4/ip_forward)
iptables-save
`

var ifIndex = regexp.MustCompile(`(?m)^\d+: `)

// rows is what rowsScript tells, without what is not tulled's and without what
// another device of the same name may differ in.
func rows(ctx context.Context, h *Host) string {
	text, err := h.ExecInput(ctx, rowsScript, "sh")
	if err != nil {
		text += err.Error()
	}
	text = ifIndex.ReplaceAllString(text, "")
	text, rules, _ := strings.Cut(text, "\n# Generated")
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	reached := false // our chain, by a packet that is forwarded
	for rule := range strings.Lines(rules) {
		reached = reached || strings.Contains(rule, "-A FORWARD -j TULLE-FORWARD")
		if strings.Contains(rule, "TULLE") && !strings.HasPrefix(rule, ":") || !reached && strings.HasPrefix(rule, "-A FORWARD") {
			lines = append(lines, strings.TrimSpace(rule))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// difference is what two texts of rows do not share.
func difference(was, now string) string {
	var text strings.Builder
	a, b := strings.Split(was, "\n"), strings.Split(now, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&text, "\n  - %s", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&text, "\n  + %s", line)
		}
	}
	return text.String()
}

// rowsAre returns what to poll for rows to be as they were.
func rowsAre(t *testing.T, h *Host, want string) func() error {
	return func() error {
		if now := rows(t.Context(), h); now != want {
			return fmt.Errorf("%s: rows differ:%s", h.Name, difference(want, now))
		}
		return nil
	}
}

// stateOf asks the daemon for /state. It has the daemon look at the kernel, so it
// is not for waiting until the daemon does that by itself.
func stateOf(t *testing.T, h *Host) status.Node {
	t.Helper()
	var n status.Node
	text, err := get(t.Context(), h.Client(), daemonStatus+"/state?format=json")
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return n
}

// wantRight checks that the daemon says all is right.
func wantRight(t *testing.T, h *Host) {
	t.Helper()
	n := stateOf(t, h)
	if len(n.Difference) > 0 || n.KernelErr != "" || !n.Ready {
		t.Errorf("%s: ready is %t, the kernel differs in %q %s, want nothing", h.Name, n.Ready, n.Difference, n.KernelErr)
	}
}

// metric is the sum of a metric of the daemon over all its labels.
func metric(t *testing.T, h *Host, name string) float64 {
	t.Helper()
	text, err := get(t.Context(), h.Client(), daemonStatus+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return sumOf(t, string(text), name)
}

// sumOf is the sum of a metric in the text of /metrics over all its labels.
func sumOf(t *testing.T, text, name string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || !strings.ContainsAny(rest[:1], " {") {
			continue
		}
		fields := strings.Fields(rest)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("/metrics: %s: %v", line, err)
		}
		sum += n
	}
	return sum
}

// journal is the daemon's log from a moment on.
type journal struct {
	path string
	from int
}

func (h *Host) journal(t *testing.T) journal {
	t.Helper()
	j := journal{path: h.Log(daemonName)}
	j.from = len(j.text(t))
	return j
}

func (j journal) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[j.from:])
}

func (j journal) count(t *testing.T, words string) int {
	t.Helper()
	return strings.Count(j.text(t), words)
}

// wantOnce checks that the log has a line with these words, and only one.
func (j journal) wantOnce(t *testing.T, words string) {
	t.Helper()
	if n := j.count(t, words); n != 1 {
		t.Errorf("%d lines in the log with %q, want 1:\n%s", n, words, j.text(t))
	}
}

// tells polls for words in the log.
func (j journal) tells(t *testing.T, words string) func() error {
	return func() error {
		if j.count(t, words) == 0 {
			return fmt.Errorf("no line in the log with %q:\n%s", words, j.text(t))
		}
		return nil
	}
}

// probe starts a probe between the pods of the victim.
func (v victim) probe(t *testing.T) *Probe {
	t.Helper()
	p, err := StartProbe(v.near, v.far, subnet.IPv4)
	if err == nil {
		err = answers(t, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// answers waits for a packet to be answered.
func answers(t *testing.T, p *Probe) error {
	ctx, cancel := context.WithTimeoutCause(t.Context(), healTime, fmt.Errorf("none within %s", healTime))
	defer cancel()
	return p.Wait(ctx)
}

// wantAnswered checks that traffic is back.
func wantAnswered(t *testing.T, p *Probe) {
	t.Helper()
	if err := answers(t, p); err != nil {
		t.Error(err)
	}
}

// wantNoneLost ends a probe.
func wantNoneLost(t *testing.T, p *Probe) {
	t.Helper()
	if l := p.Stop(); l.Lost > 0 {
		t.Errorf("probe: %s, want none lost", l)
	}
}

// wantExit waits for the daemon to end by itself and checks that a supervisor
// would see it.
func wantExit(t *testing.T, h *Host) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), healTime, errors.New("it still runs"))
	defer cancel()
	s, err := h.Wait(ctx, daemonName)
	if err != nil {
		t.Errorf("%s: tulled should have ended: %v", h.Name, err)
		return
	}
	if s.Exit != "exit status 1" {
		t.Errorf("%s: tulled ended with %s, want exit status 1", h.Name, s.Exit)
	}
}

// startReady starts the daemon and waits until it is ready.
func startReady(t *testing.T, h *Host, flags ...string) {
	t.Helper()
	if err := errors.Join(h.StartDaemon(t.Context(), flags...), h.WaitReady(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// stopDaemon ends the daemon.
func stopDaemon(t *testing.T, h *Host, signal syscall.Signal) {
	t.Helper()
	if _, err := h.StopDaemon(t.Context(), signal); err != nil {
		t.Fatal(err)
	}
}
