package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"tulle/subnet"
)

const (
	servicePort = 80
	nodePort    = 30080
)

var serviceAddr = netip.MustParseAddr("10.96.0.10")

// withService puts kube-proxy's rules for a service with that pod behind it on
// a node, runs f with the service, and removes the rules.
func withService(ctx context.Context, node *Host, backend *Pod, f func(service) (string, error)) (string, error) {
	s := service{
		name:     "default/" + backend.Name + ":http",
		addr:     netip.AddrPortFrom(serviceAddr, servicePort),
		nodePort: nodePort,
		endpoint: netip.AddrPortFrom(backend.Addr.Addr(), ServePort),
	}
	rules := kubeProxyRules(podNetwork, []service{s})
	err := proxyOn(ctx, node, rules)
	var seen string
	if err == nil {
		seen, err = f(s)
	}
	return seen, errors.Join(err, proxyOff(context.WithoutCancel(ctx), node, rules))
}

func proxyOn(ctx context.Context, node *Host, rules string) error {
	if _, err := node.ExecInput(ctx, rules, "iptables-restore", "--wait", "5", "--noflush"); err != nil {
		return err
	}
	for _, j := range kubeProxyJumps {
		if _, err := node.Exec(ctx, "iptables", "--wait", "5", "-t", j.table, "-I", j.chain, "-m", "comment", "--comment", j.comment, "-j", j.to); err != nil {
			return err
		}
	}
	return nil
}

var chainLine = regexp.MustCompile(`(?m)^:(\S+) .*$`)

// proxyOff removes what proxyOn made: the jumps one by one, the chains in one step.
func proxyOff(ctx context.Context, node *Host, rules string) error {
	var errs []error
	for _, j := range kubeProxyJumps {
		_, err := node.Exec(ctx, "iptables", "--wait", "5", "-t", j.table, "-D", j.chain, "-m", "comment", "--comment", j.comment, "-j", j.to)
		errs = append(errs, err)
	}
	var undo strings.Builder
	for table := range strings.SplitSeq(strings.TrimSpace(rules), "COMMIT") {
		name, _, _ := strings.Cut(strings.TrimSpace(table), "\n")
		if name == "" {
			continue
		}
		fmt.Fprintln(&undo, name)
		var remove []string
		for _, m := range chainLine.FindAllStringSubmatch(table, -1) {
			fmt.Fprintf(&undo, ":%s - [0:0]\n", m[1]) // empties it
			remove = append(remove, "-X "+m[1])
		}
		fmt.Fprintf(&undo, "%s\nCOMMIT\n", strings.Join(remove, "\n"))
	}
	_, err := node.ExecInput(ctx, undo.String(), "iptables-restore", "--wait", "5", "--noflush")
	return errors.Join(append(errs, err)...)
}

func (s service) url() string { return "http://" + s.addr.String() + "/" }

func checkServiceAcross(ctx context.Context, l *Lab) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, c.far, func(s service) (string, error) {
		return saw(ctx, &c.near.Place, s.url(), c.far.Name, c.near.Addr.Addr())
	})
}

// checkServiceSameHost is answered only where bridged packets go through
// iptables: the answer of the pod beside would else reach the asking pod over
// the bridge, from an address that it did not ask.
func checkServiceSameHost(ctx context.Context, l *Lab) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, c.beside, func(s service) (string, error) {
		seen, err := saw(ctx, &c.near.Place, s.url(), c.beside.Name, c.near.Addr.Addr())
		if err != nil {
			err = errors.Join(err, bridgeFirewalled(ctx, c.near.host))
		}
		return seen, err
	})
}

// bridgeFirewalled fails when bridged packets do not go through iptables.
func bridgeFirewalled(ctx context.Context, h *Host) error {
	const setting = "net/bridge/bridge-nf-call-iptables"
	text, err := h.Exec(ctx, "cat", "/proc/sys/"+setting)
	if got := strings.TrimSpace(text); err == nil && got != "1" {
		err = fmt.Errorf("%s: expected %s to be 1, saw %s", h.Name, setting, got)
	}
	return err
}

// checkServiceHairpin: kube-proxy masquerades such a request, because a pod
// would not answer itself over its interface. The source is the bridge's.
func checkServiceHairpin(ctx context.Context, l *Lab) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, c.near, func(s service) (string, error) {
		return saw(ctx, &c.near.Place, s.url(), c.near.Name, subnet.Bridge(c.near.Addr).Addr())
	})
}

// checkNodePort asks at a node that does not have the pod: the request goes on
// through the overlay, masqueraded so that the answer comes back the same way.
func checkNodePort(ctx context.Context, l *Lab) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, c.far, func(s service) (string, error) {
		url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(c.near.host.Addr, nodePort))
		return saw(ctx, &l.Host("outside").Place, url, c.far.Name, nodeSources(c.near)...)
	})
}
