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
const healTime = 30 * time.Second

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
	family    subnet.Family
	vars      map[string]string
}

func newVictim(t *testing.T, l *Lab) victim {
	t.Helper()
	return newVictimOf(t, l, subnet.IPv4)
}

// newVictimOf is a victim of faults in one family, of the pods and of the packets
// between hosts alike.
func newVictimOf(t *testing.T, l *Lab, f subnet.Family) victim {
	t.Helper()
	near, far := l.Pods[0], l.Pods[len(l.Pods)-1]
	withIPTables(t, near.host)
	v := victim{Host: near.host, lab: l, near: near, far: far, family: f}
	own, peer := l.lease(t, near.host), l.lease(t, far.host)
	gw := subnet.Gateway(peer.Subnets[f]).String()
	if f == subnet.IPv6 && l.backend != subnet.HostGW && !l.direct {
		neighbours, err := v.Exec(t.Context(), "ip", "-6", "neigh", "show", "dev", "tulle.1", "nud", "permanent")
		if err != nil || !strings.Contains(neighbours, macOf(peer, f)) {
			t.Fatalf("no neighbour %s: %v\n%s", macOf(peer, f), err, neighbours)
		}
		gw = strings.Fields(neighbours)[0] // the only peer's
	}
	nexthops, err := v.Exec(t.Context(), "ip", "nexthop")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`(?m)^id (\d+) via (?:` + gw + `|` + peer.Addrs[f].String() + `) `).FindStringSubmatch(nexthops)
	if id == nil {
		t.Fatalf("no nexthop object via %s:\n%s", gw, nexthops)
	}
	v.vars = map[string]string{
		"MAC": macOf(peer, f), "PEER": peer.Addrs[f].String(), "DST": peer.Subnets[f].String(), "GW": gw, "ID": id[1],
		"OWN": subnet.Gateway(own.Subnets[f]).String(), "LOCAL": own.Addrs[f].String(), "ROUTER": addresses[f].underlay.Addr().String(),
		"PODS": addresses[f].pods.String(), "HOST": strconv.Itoa(f.Bits()), "IPTABLES": iptables[f],
	}
	for name, both := range map[string][2]string{
		"NOBODY":   {"192.0.2.99", "2001:db8::99"}, // on the underlay
		"NOBODY2":  {"192.0.2.98", "2001:db8::98"},
		"NOGW":     {"10.244.255.9", "fe80::9"},
		"NOSUBNET": {"10.244.254.0/24", "fd00:10:244:fe::/64"},
		"NOADDR":   {"10.244.254.1/32", "fd00:10:244:fe::1/128"},
		"KEPT":     {"192.168.0.0/16", "2001:db8:77::/48"},
		"ELSE":     {"203.0.113.0/24", "2001:db8:f::/48"},
		"WIDE":     {"24", "127"},
		"TABLES":   {"ip", "ip6"}, // of nft(8)
		"VTEPS":    {"vteps.ip", "vteps.ip6"},
		"SOURCES":  {"sources.ip.ip.24", "sources.ip6.ip6.64"},
		"FORWARD":  {"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"},
		"CONF":     {"net/ipv4/conf", "net/ipv6/conf"},
	} {
		v.vars[name] = both[f]
	}
	return v
}

// fill puts the victim's variables into a text.
func (v victim) fill(text string) string {
	return os.Expand(text, func(name string) string {
		value, ok := v.vars[name]
		if !ok {
			value = "$" + name // the shell's
		}
		return value
	})
}

// emptyTables is what iptables-restore makes the tables of.
const emptyTables = `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
COMMIT
`

// withIPTables gives a node the tables of iptables, as it has them with kube-proxy,
// and returns when tulled has said in them what it lets pass.
func withIPTables(t *testing.T, h *Host) {
	t.Helper()
	for _, f := range h.lab.Families.List() {
		if _, err := h.ExecInput(t.Context(), emptyTables, iptables[f]+"-restore", "--wait", "5", "--noflush"); err != nil {
			t.Fatal(err)
		}
	}
	heals(t, func() error {
		if differ := stateOf(t, h).Difference; len(differ) > 0 {
			return fmt.Errorf("%s: the kernel differs in %q", h.Name, differ)
		}
		return nil
	})
}

var macText = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// macOf is the MAC address of a lease's VXLAN device.
func macOf(l subnet.Lease, f subnet.Family) string { return macText.FindString(l.Data[f]) }

// sh runs a shell script in the node. Variables there name the rows that lead
// to the far pod's node.
func (v victim) sh(t *testing.T, script string) string {
	t.Helper()
	text, err := v.ExecInput(t.Context(), v.fill(script), "sh", "-eu")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rowsScript prints what tulled holds in the kernel, and what could be in its way.
const rowsScript = `
ip -o -d link show tulle.1
ip -o -4 address show dev tulle.1
ip -o -6 address show dev tulle.1 scope global
ip route
ip -6 route show root fd00:10:244::/56
ip nexthop
ip neigh show dev tulle.1 nud permanent
bridge fdb show dev tulle.1
nft -s list table inet tulle.1 | grep -v packets
nft -s list table ip tulle 2>/dev/null
nft -s list table ip6 tulle 2>/dev/null
nft -s list table inet firewalld 2>/dev/null
echo bridge $(ip -o link show cni0 | grep -o 'mtu [0-9]*')
echo forward $(cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding)
iptables-save
echo ip6tables
ip6tables-save
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
		if rule == "ip6tables\n" {
			lines, reached = append(lines, "ip6tables"), false
		}
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

// hasRoute returns what to poll for a node to have a route to a subnet.
func hasRoute(t *testing.T, h *Host, dst string) func() error {
	return func() error {
		if text := rows(t.Context(), h); !strings.Contains(text, dst+" ") {
			return fmt.Errorf("%s has no route to %s:\n%s", h.Name, dst, text)
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

// journal is a daemon's log from a moment on.
type journal struct {
	path string
	from int
}

func (h *Host) journal(t *testing.T) journal { return h.journalOf(t, daemonName) }

func (h *Host) journalOf(t *testing.T, program string) journal {
	t.Helper()
	j := journal{path: h.Log(program)}
	j.from = len(j.whole(t))
	return j
}

func (j journal) whole(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[j.from:])
}

// reachTold is what a look at a peer tells. It is chance which looks fall into a
// fault, and one tells of it up to some seconds later.
var reachTold = regexp.MustCompile(`(?m)^.*a peer is (not reached|reached again).*\n`)

// text is the log without what looks at peers tell.
func (j journal) text(t *testing.T) string {
	t.Helper()
	return reachTold.ReplaceAllString(j.whole(t), "")
}

func (j journal) count(t *testing.T, words string) int {
	t.Helper()
	return strings.Count(j.text(t), words)
}

var changesTold = regexp.MustCompile(`"change": "|"changes": (\d+)`)

// changes is how many changes of the kernel the log tells, one by one or together.
func (j journal) changes(t *testing.T) int {
	t.Helper()
	sum := 0
	for _, m := range changesTold.FindAllStringSubmatch(j.text(t), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			n = 1 // it is told by itself
		}
		sum += n
	}
	return sum
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
	p, err := StartProbe(v.near, v.far, v.family)
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
