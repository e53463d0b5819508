package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tulle/internal/reach"
	"tulle/internal/trace"
	"tulle/subnet"
)

// underlay looks at the device towards the other nodes.
func (e *examination) underlay() {
	for _, t := range e.Twice {
		with := "another host"
		if t.MAC != "" {
			with = "the host with the MAC address " + t.MAC
		}
		e.add("address-twice", fmt.Sprintf("give one of the two hosts another address; arping -D -I %s %s shows the other", t.Dev, t.Addr),
			"%s has the address %s of this host's %s as well", with, t.Addr, t.Dev)
	}
	u := e.State.Underlay
	if u == nil {
		return
	}
	l, ok := e.link(u.Dev)
	switch {
	case !ok:
		e.add("underlay", "ip link; choose another with --iface", "the device %s towards the other nodes is gone", u.Dev)
	case !l.Up:
		e.add("underlay", "ip link set "+u.Dev+" up", "the device %s towards the other nodes is down", u.Dev)
	case !l.Carrier:
		e.add("underlay", "look at its cable, or at the other end of "+u.Dev, "the device %s towards the other nodes has no carrier", u.Dev)
	case !slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr().String() == u.Address }):
		e.add("underlay", fmt.Sprintf("ip address add %s/24 dev %s, with the right prefix length; or restart tulled", u.Address, u.Dev), "the address %s is no longer one of %s", u.Address, u.Dev)
	}
}

// network looks at the overlay, and at what others left on this host.
func (e *examination) network() {
	n, known := e.Network()
	for _, l := range e.Links {
		ours := l.Name == e.State.Device || strings.HasPrefix(l.Alias, "tulle ")
		switch {
		case ours:
			if !l.Up {
				e.add("way", "ip link set "+l.Name+" up", "the device %s of the overlay is down", l.Name)
			}
		case l.Kind == "vxlan" && known && l.VNI == n.Backend.VNI && l.Port == n.Backend.Port:
			e.add("vxlan-clash", "ip link del "+l.Name+", once what owns it is stopped", "%s uses VNI %d and UDP port %d as tulle does", l.Name, l.VNI, l.Port)
		default:
			if whose := other(l); whose != "" {
				e.add("other-network", "ip link del "+l.Name+", once "+whose+" is stopped and its files in /etc/cni/net.d are gone", "%s is left of %s, and its routes and rules may be in the way", l.Name, whose)
			}
		}
	}
	if known {
		e.addresses(n)
	}
	if len(e.Unread) > 0 {
		e.add("rules-unread", "run doctor as root; apt-get install nftables, or the package of that name of another distribution",
			"not all rules of netfilter could be read, so what those drop is not known: %s", few(e.Unread))
	}
	for _, d := range e.Drops {
		e.add("rule-drops", d.Rule.Delete+"; or let that program accept it", "a rule of %s %s drops %s: %s", d.Rule.Table, d.Rule.Chain, d.What, d.Rule.Rule)
	}
}

// addresses looks for those of this host that are pods'.
func (e *examination) addresses(n subnet.Network) {
	for _, l := range e.Links {
		if l.Name == e.State.Device || l.Name == e.Bridge || strings.HasPrefix(l.Alias, "tulle ") || other(l) != "" {
			continue
		}
		for _, a := range l.Addrs {
			for _, pool := range n.Pools {
				if pool.Prefix.IsValid() && pool.Prefix.Contains(a.Addr()) {
					e.add("address-of-pods", fmt.Sprintf("ip address del %s dev %s; or choose another Network", a, l.Name),
						"%s of this host has the address %s, which lies in the pods' network %s: pods may not be reached", l.Name, a, pool.Prefix)
				}
			}
		}
	}
}

// other names the pod network that a device is of, if it is not ours.
func other(l trace.Link) string {
	for begin, whose := range map[string]string{
		"flannel": "flannel", "cali": "Calico", "vxlan.calico": "Calico", "weave": "Weave Net", "vethwe": "Weave Net", "cilium_": "Cilium", "lxc_health": "Cilium",
		"kube-bridge": "kube-router", "antrea-": "Antrea", "ovn-k8s": "OVN-Kubernetes",
	} {
		if strings.HasPrefix(l.Name, begin) {
			return whose
		}
	}
	return ""
}

// peers looks at the ways to the other nodes, and at what answers there.
func (e *examination) peers() {
	broken := map[string]bool{}
	for _, w := range e.Ways {
		if w.Trace.Lost() {
			broken[w.Peer] = true
			if !e.told(w.Trace) {
				e.add("way", w.Trace.End.Mend, "packets for pods of %s are lost on this host: %s", w.Peer, w.Trace.End.Why)
			}
			continue
		}
		for _, h := range w.Trace.Hops {
			switch {
			case h.Fault == "":
			case strings.Contains(h.Fault, "MTU"):
				e.add("underlay-mtu", "systemctl restart tulled, which follows the device's MTU; then start the pods anew", "on the way to %s %s", w.Peer, h.Fault)
			default:
				e.add("underlay-other", "ip route get ADDRESS shows the route; correct it, or choose the device with --iface", "on the way to %s %s", w.Peer, h.Fault)
			}
		}
	}
	for _, w := range e.Back {
		switch {
		case e.told(w.Trace), e.has("bridge-down"), e.has("bridge-address"):
		case w.Trace.Lost():
			e.add("way-back", w.Trace.End.Mend, "packets of pods of %s for those of this host are lost here: %s", w.Peer, w.Trace.End.Why)
		case w.Trace.End.Where != trace.AtPod:
			e.add("way-back", "ip route get "+w.Trace.Dst.String()+" shows the route; remove it", "packets of pods of %s for the pod %s of this host go %s", w.Peer, w.Trace.Dst, w.Trace.End.Text)
		}
	}
	for _, r := range e.Reached {
		if !broken[r.Peer] {
			e.reach(r)
		}
	}
}

func (e *examination) has(id string) bool {
	return slices.ContainsFunc(e.found, func(f Finding) bool { return f.ID == id })
}

// told reports whether the reason that a packet is lost for is a finding already.
func (e *examination) told(t trace.Trace) bool {
	return slices.ContainsFunc(e.found, func(f Finding) bool {
		return t.End.Mend != "" && strings.HasPrefix(f.Mend, t.End.Mend) || f.ID == "forwarding" && strings.Contains(t.End.Why, "does not forward")
	})
}

// reach tells apart what may be wrong with the way to a peer that this host's
// tables lead to.
func (e *examination) reach(r Reach) {
	plain := r.Port == 0
	dev := "the device below"
	if e.State.Underlay != nil {
		dev = e.State.Underlay.Dev
	}
	switch {
	case r.Verdict() == reach.Silent && plain:
		e.add("peer-silent", fmt.Sprintf("ping %s; see whether that host and its network run; if it is gone for good: tullectl lease release", r.Target.Underlay),
			"%s does not answer at %s", r.Peer, r.Target.Underlay)
	case r.Verdict() == reach.Checksum && plain:
		e.add("checksum", fmt.Sprintf("ethtool -K %s tx off", dev),
			"what goes to %s at %s is lost unless software makes its checksums: %s, or a device on the way, makes wrong ones", r.Peer, r.Target.Underlay, dev)
	case r.Verdict() == reach.Hole && plain && r.Largest > 0:
		e.add("mtu-hole", fmt.Sprintf("tullectl network set --mtu %d, with the Network's other fields; or mend the device in between", r.Largest),
			"of what goes to %s at %s, packets of %d bytes arrive and of %d do not, though this host's MTU allows it", r.Peer, r.Target.Underlay, r.Largest, r.Target.MTU)
	case r.Verdict() == reach.Silent:
		e.add("peer-silent", fmt.Sprintf("ping %s; see whether that host and its network run; if it is gone for good: tullectl lease release", r.Target.Underlay),
			"%s answers neither at %s nor through the tunnel", r.Peer, r.Target.Underlay)
	case r.Wrapped == reach.Answered, r.Verdict() == reach.Checksum:
		e.add("checksum", fmt.Sprintf("ethtool -K %s tx-checksum-ip-generic off, on both hosts; or ethtool -K %s tx off", e.tunnel(), dev),
			"what goes through the tunnel to %s is lost unless software makes its checksums: %s, or a device on the way, makes wrong ones", r.Peer, dev)
	case r.Verdict() == reach.Blocked:
		e.add("tunnel-blocked", fmt.Sprintf("open UDP port %d between all nodes, in both directions; on %s: tullectl doctor, and tcpdump -ni any udp port %d", r.Port, r.Peer, r.Port),
			"%s answers ping at %s, and nothing through the tunnel: UDP port %d does not pass, or tulled never ran there", r.Peer, r.Target.Underlay, r.Port)
	case r.Verdict() == reach.Hole && r.Largest > 0:
		e.add("mtu-hole", fmt.Sprintf("tullectl network set --mtu %d, with the Network's other fields; or mend the device in between", r.Largest+r.Overhead),
			"of what goes through the tunnel to %s, packets of %d bytes arrive and of %d do not, though this host's MTU allows it", r.Peer, r.Largest, r.Target.MTU)
	}
}

func (e *examination) tunnel() string {
	if e.State.Device != "" {
		return e.State.Device
	}
	return "tulle.1"
}
