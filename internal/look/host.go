// Package look reads what a host is like: the tables of its kernel, its files,
// and who has its address. It changes nothing, and needs no daemon.
package look

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/internal/ruleset"
	"tulle/internal/trace"
)

// Host is this host as it was when Open read it; its routes are asked for one by
// one. It implements trace.World.
type Host struct {
	links    []trace.Link
	names    map[int]string // of devices, by index
	neighs   map[neighKey]trace.Neigh
	fdb      map[fdbKey]trace.FDB
	pods     []trace.Pod
	peers    []trace.Peer
	networks []netip.Prefix
	rules    func() ruleset.Ruleset
}

type neighKey struct {
	dev  string
	addr netip.Addr
}

type fdbKey struct{ dev, mac string }

var _ trace.World = (*Host)(nil)

// Open reads the tables of the network namespace that it is called in.
func Open() (*Host, error) {
	h := &Host{neighs: map[neighKey]trace.Neigh{}, fdb: map[fdbKey]trace.FDB{}, rules: sync.OnceValue(readRules)}
	for _, step := range []struct {
		what string
		read func() error
	}{
		{"devices", h.readLinks},
		{"neighbours", h.readNeighs},
		{"forwarding databases", h.readFDB},
		{"pods", h.readPods},
	} {
		if err := settled(step.read); err != nil {
			return nil, fmt.Errorf("read %s: %w", step.what, err)
		}
	}
	return h, nil
}

// settled reads a table of the kernel, and again if it changed meanwhile, as is
// usual while many pods start. Where it changes all the time, what came is what
// there is.
func settled(read func() error) error {
	const tries = 20
	for range tries {
		if err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return nil
}

// Know tells the host of the network that it is part of, which the kernel does
// not.
func (h *Host) Know(networks []netip.Prefix, peers []trace.Peer) {
	h.networks, h.peers = networks, peers
}

// Networks implements trace.World.
func (h *Host) Networks() []netip.Prefix { return h.networks }

// Peers implements trace.World.
func (h *Host) Peers() []trace.Peer { return h.peers }

// Rules implements trace.World.
func (h *Host) Rules() ruleset.Ruleset { return h.rules() }

// Links are all devices.
func (h *Host) Links() []trace.Link { return h.links }

// Link implements trace.World.
func (h *Host) Link(name string) (trace.Link, bool) {
	i := slices.IndexFunc(h.links, func(l trace.Link) bool { return l.Name == name && name != "" })
	if i < 0 {
		return trace.Link{}, false
	}
	return h.links[i], true
}

// Owner implements trace.World.
func (h *Host) Owner(a netip.Addr) (string, bool) {
	for _, l := range h.links {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return l.Name, true
		}
	}
	return "", false
}

// Sysctl implements trace.World. A name is a path below /proc/sys.
func (h *Host) Sysctl(name string) (string, bool) {
	text, err := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(text)), err == nil
}

func (h *Host) readLinks() error {
	links, interrupted := netlink.LinkList()
	if interrupted != nil && !errors.Is(interrupted, netlink.ErrDumpInterrupted) {
		return interrupted
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	h.links, h.names = nil, map[int]string{}
	for _, l := range links {
		h.names[l.Attrs().Index] = l.Attrs().Name
	}
	at := map[int]int{} // place among the links, by index
	for _, l := range links {
		attrs := l.Attrs()
		link := trace.Link{
			Name: attrs.Name, Kind: kind(l), Up: attrs.Flags&net.FlagUp != 0, Carrier: attrs.RawFlags&unix.IFF_LOWER_UP != 0,
			MTU: attrs.MTU, MAC: attrs.HardwareAddr.String(), Master: h.names[attrs.MasterIndex], Alias: attrs.Alias,
		}
		if v, ok := l.(*netlink.Vxlan); ok {
			link.VNI, link.Port, link.Local = v.VxlanId, v.Port, addr(v.SrcAddr)
		}
		if attrs.MasterIndex != 0 {
			link.State, link.Hairpin = port(attrs.Name)
		}
		if link.Kind == "bridge" {
			for f, name := range []string{"nf_call_iptables", "nf_call_ip6tables"} {
				text, _ := os.ReadFile("/sys/class/net/" + attrs.Name + "/bridge/" + name)
				link.Calls[f] = strings.TrimSpace(string(text)) == "1"
			}
		}
		at[attrs.Index] = len(h.links)
		h.links = append(h.links, link)
	}
	for _, a := range addrs {
		i, there := at[a.LinkIndex]
		if !there {
			continue
		}
		bits, _ := a.Mask.Size()
		h.links[i].Addrs = append(h.links[i].Addrs, netip.PrefixFrom(addr(a.IP), bits))
		if a.Flags&unix.IFA_F_DADFAILED != 0 {
			h.links[i].Twice = append(h.links[i].Twice, addr(a.IP))
		}
	}
	return errors.Join(interrupted, err)
}

// kind is a device's, or empty for one of hardware.
func kind(l netlink.Link) string {
	if l.Type() == "device" {
		return ""
	}
	return l.Type()
}

// port is the state of a bridge's port.
func port(name string) (state string, hairpin bool) {
	text, err := os.ReadFile("/sys/class/net/" + name + "/brport/state")
	if err != nil {
		return "", false
	}
	words := []string{"disabled", "listening", "learning", "forwarding", "blocking"}
	if n := strings.TrimSpace(string(text)); len(n) == 1 && int(n[0]-'0') < len(words) {
		state = words[n[0]-'0']
	}
	text, _ = os.ReadFile("/sys/class/net/" + name + "/brport/hairpin_mode")
	return state, strings.TrimSpace(string(text)) == "1"
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
