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

// iptables is the program for each family.
var iptables = [2]string{subnet.IPv4: "iptables", subnet.IPv6: "ip6tables"}

// withService puts kube-proxy's rules for a service with that pod behind it on
// a node, runs do with the service, and removes the rules: those of each mode of
// kube-proxy, one after the other.
func withService(ctx context.Context, node *Host, f subnet.Family, backend *Pod, do func(service) (string, error)) (string, error) {
	s := service{
		name:     "default/" + backend.Name + ":http",
		addr:     netip.AddrPortFrom(addresses[f].service, servicePort),
		nodePort: nodePort,
		endpoint: netip.AddrPortFrom(backend.Addrs[f].Addr(), ServePort),
	}
	rules := kubeProxyRules(addresses[f].pods, []service{s})
	table := kubeProxyTable(addresses[f].pods, node.Addrs[f], []service{s})
	var seen string
	for _, mode := range []struct {
		name    string
		on, off func(context.Context) error
	}{
		{"iptables",
			func(ctx context.Context) error { return proxyOn(ctx, node, f, rules) },
			func(ctx context.Context) error { return proxyOff(ctx, node, f, rules) }},
		{"nftables",
			func(ctx context.Context) error { return nft(ctx, node, table) },
			func(ctx context.Context) error {
				return nft(ctx, node, "delete table "+[2]string{"ip", "ip6"}[f]+" kube-proxy")
			}},
	} {
		err := mode.on(ctx)
		if err == nil {
			seen, err = do(s)
		}
		if err := errors.Join(err, mode.off(context.WithoutCancel(ctx))); err != nil {
			return "", fmt.Errorf("kube-proxy in %s mode: %w", mode.name, err)
		}
	}
	return seen, nil
}

// nft feeds commands to nft(8).
func nft(ctx context.Context, node *Host, commands string) error {
	_, err := node.ExecInput(ctx, commands, "nft", "-f", "-")
	return err
}

func proxyOn(ctx context.Context, node *Host, f subnet.Family, rules string) error {
	if _, err := node.ExecInput(ctx, rules, iptables[f]+"-restore", "--wait", "5", "--noflush"); err != nil {
		return err
	}
	for _, j := range kubeProxyJumps {
		if _, err := node.Exec(ctx, iptables[f], "--wait", "5", "-t", j.table, "-I", j.chain, "-m", "comment", "--comment", j.comment, "-j", j.to); err != nil {
			return err
		}
	}
	return nil
}

var chainLine = regexp.MustCompile(`(?m)^:(\S+) .*$`)

// proxyOff removes what proxyOn made: the jumps one by one, the chains in one step.
func proxyOff(ctx context.Context, node *Host, f subnet.Family, rules string) error {
	var errs []error
	for _, j := range kubeProxyJumps {
		_, err := node.Exec(ctx, iptables[f], "--wait", "5", "-t", j.table, "-D", j.chain, "-m", "comment", "--comment", j.comment, "-j", j.to)
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
	_, err := node.ExecInput(ctx, undo.String(), iptables[f]+"-restore", "--wait", "5", "--noflush")
	return errors.Join(append(errs, err)...)
}

func (s service) url() string { return "http://" + s.addr.String() + "/" }

func checkServiceAcross(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, f, c.far, func(s service) (string, error) {
		return saw(ctx, &c.near.Place, s.url(), c.far.Name, c.near.Addrs[f].Addr())
	})
}

// checkServiceSameHost is answered only where bridged packets go through
// iptables: the answer of the pod beside would else reach the asking pod over
// the bridge, from an address that it did not ask.
func checkServiceSameHost(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, f, c.beside, func(s service) (string, error) {
		seen, err := saw(ctx, &c.near.Place, s.url(), c.beside.Name, c.near.Addrs[f].Addr())
		if err != nil {
			err = errors.Join(err, bridgeFirewalled(ctx, c.near.host, f))
		}
		return seen, err
	})
}

// bridgeFirewalled fails when bridged packets do not go through iptables.
func bridgeFirewalled(ctx context.Context, h *Host, f subnet.Family) error {
	setting := "net/bridge/bridge-nf-call-" + iptables[f]
	text, err := h.Exec(ctx, "cat", "/proc/sys/"+setting)
	if got := strings.TrimSpace(text); err == nil && got != "1" {
		err = fmt.Errorf("%s: expected %s to be 1, saw %s", h.Name, setting, got)
	}
	return err
}

// checkServiceHairpin: kube-proxy masquerades such a request, because a pod
// would not answer itself over its interface. The source is the bridge's.
func checkServiceHairpin(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, f, c.near, func(s service) (string, error) {
		return saw(ctx, &c.near.Place, s.url(), c.near.Name, subnet.Bridge(c.near.Addrs[f]).Addr())
	})
}

// checkNodePort asks at a node that does not have the pod: the request goes on
// through the overlay, masqueraded so that the answer comes back the same way.
func checkNodePort(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return withService(ctx, c.near.host, f, c.far, func(s service) (string, error) {
		url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(c.near.host.Addrs[f], nodePort))
		return saw(ctx, &l.Host("outside").Place, url, c.far.Name, nodeSources(c.near, f)...)
	})
}
