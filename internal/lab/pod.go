package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// mostPods is what a /24 has for pods: without the first and last address, the
// bridge's and the VXLAN device's.
const mostPods = 252

// conflist is what an operator puts into /etc/cni/net.d. The lab hands it to
// libcni itself, for a host has the machine's /etc.
const conflist = `{"cniVersion":"1.0.0","name":"tulle","plugins":[{"type":"tulle"}]}`

const (
	cniCache = "/var/lib/cni"
	podIf    = "eth0"
)

// Pod is a network namespace on a node, attached by the plugin, with a process
// in it that answers HTTP.
type Pod struct {
	Place
	Addrs [2]netip.Prefix // by subnet.Family

	conflist string // that it is attached by
}

// Addr is the pod's address: that of IPv4 if it has one.
func (p *Pod) Addr() netip.Addr {
	if four := p.Addrs[subnet.IPv4]; four.IsValid() {
		return four.Addr()
	}
	return p.Addrs[subnet.IPv6].Addr()
}

func newPod(h *Host, name string) *Pod {
	return &Pod{Place: Place{Name: name, host: h, net: filepath.Join(podNets, name)}, conflist: conflist}
}

// Host is the node that the pod is on.
func (p *Pod) Host() *Host { return p.host }

// AddPod makes a pod on the node, as a container runtime does: network
// namespace, CNI ADD, and then its process.
func (l *Lab) AddPod(ctx context.Context, h *Host, name string) (*Pod, error) {
	return l.attach(ctx, newPod(h, name))
}

func (l *Lab) attach(ctx context.Context, p *Pod) (*Pod, error) {
	h, name := p.host, p.Name
	if err := h.call(ctx, "AddPod", name, &struct{}{}); err != nil {
		return nil, err
	}
	err := p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		result, err := c.AddNetworkList(ctx, list, rt)
		if err == nil {
			p.Addrs, err = addrsOf(result)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach pod %s on %s: %w", name, h.Name, err)
	}
	if err := startServe(ctx, h, p); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.Pods = append(l.Pods, p)
	slices.SortFunc(l.Pods, func(a, b *Pod) int {
		return cmp.Or(
			cmp.Compare(slices.Index(l.Hosts, a.host), slices.Index(l.Hosts, b.host)),
			cmp.Compare(len(a.Name), len(b.Name)), // pod1-2 before pod1-10
			strings.Compare(a.Name, b.Name))
	})
	l.mu.Unlock()
	return p, l.save()
}

// RemovePod undoes AddPod, as a container runtime does: its process, CNI DEL,
// then the network namespace.
func (l *Lab) RemovePod(ctx context.Context, p *Pod) error {
	_, stopErr := p.host.stop(ctx, p.Name, unix.SIGKILL)
	delErr := p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.DelNetworkList(ctx, list, rt)
	})
	nsErr := p.host.call(ctx, "RemovePod", p.Name, &struct{}{})
	l.mu.Lock()
	l.Pods = slices.DeleteFunc(l.Pods, func(q *Pod) bool { return q == p })
	l.mu.Unlock()
	return errors.Join(stopErr, delErr, nsErr, l.save())
}

// cni runs f on the pod's host, with what libcni wants to know of the pod.
func (p *Pod) cni(f func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	list, err := libcni.ConfListFromBytes([]byte(p.conflist))
	if err != nil {
		return err
	}
	config := libcni.NewCNIConfigWithCacheDir([]string{hostBin}, cniCache, nil)
	return p.host.Do(func() error {
		return f(config, list, &libcni.RuntimeConf{ContainerID: p.Name, NetNS: p.net, IfName: podIf})
	})
}

// addrsOf is the pod's own addresses in a CNI result.
func addrsOf(result types.Result) ([2]netip.Prefix, error) {
	var addrs [2]netip.Prefix
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return addrs, err
	}
	for _, ip := range r.IPs {
		if p, ok := prefixOf(&ip.Address); ok {
			addrs[subnet.FamilyOf(p.Addr())] = p
		}
	}
	if addrs == [2]netip.Prefix{} {
		return addrs, errors.New("the plugin's result has no address")
	}
	return addrs, nil
}
