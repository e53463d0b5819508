package doctor

import (
	"fmt"
	"net/netip"
	"path"
	"slices"

	"tulle/internal/trace"
)

// example is where the packages put a configuration; a checkout has it in dist.
const example = "/usr/share/doc/tulle/examples/10-tulle.conflist"

// pods looks at the bridge, at the pods' devices, and at how runtimes call the
// plugin.
func (e *examination) pods() {
	if bridge, ok := e.link(e.Bridge); ok {
		e.bridge(bridge.Name)
	}
	e.cni()
}

func (e *examination) bridge(name string) {
	bridge, _ := e.link(name)
	if !bridge.Up {
		e.add("bridge-down", "ip link set "+name+" up", "the pods' bridge %s is down", name)
		return // and so are its ports, and its routes gone
	}
	for _, own := range e.Subnets {
		if !own.IsValid() {
			continue
		}
		there := false
		for _, a := range bridge.Addrs {
			switch {
			case own.Contains(a.Addr()):
				there = true
			case a.Addr().BitLen() == own.Addr().BitLen() && !a.Addr().IsLinkLocalUnicast():
				e.add("bridge-address", fmt.Sprintf("ip address del %s dev %s; or ip link del %s, once no pod is attached", a, name, name),
					"the pods' bridge %s has the address %s, which is not of this node's subnet %s: another network's, or a former subnet's", name, a, own)
			}
		}
		if !there {
			gateway := netip.PrefixFrom(own.Addr().Next(), own.Bits())
			mend := fmt.Sprintf("ip address add %s dev %s", gateway, name)
			if off := "net/ipv6/conf/" + name + "/disable_ipv6"; own.Addr().Is6() && e.Sysctls[off] == "1" {
				mend = "sysctl -w " + dotted(off) + "=0; " + mend
			}
			e.add("bridge-address", mend, "the pods' bridge %s lacks the address %s, by which pods leave", name, gateway)
		}
	}
	for _, p := range e.Pods {
		if l, ok := e.link(p.Veth); ok && l.Master == "" {
			e.add("pod-port", fmt.Sprintf("ip link set %s master %s && bridge link set dev %s hairpin on; or start the pod anew", l.Name, name, l.Name), "%s is no port of %s any more, so nothing comes to the pod", whose(l), name)
		}
	}
	for _, l := range e.Links {
		if l.Master != name {
			continue
		}
		who := whose(l)
		switch {
		case !l.Up:
			e.add("pod-port", "ip link set "+l.Name+" up", "%s is down", who)
		case !l.Carrier && l.Kind == "veth":
			e.add("pod-port", "start the pod anew", "%s has no carrier: the pod's own device at its other end is down", who)
		case l.State != "" && l.State != "forwarding" && l.Carrier:
			e.add("pod-port", "bridge link set dev "+l.Name+" state 3", "the port %s of %s is %s and lets nothing pass", who, name, l.State)
		}
		if e.State.MTU > 0 && l.MTU > e.State.MTU {
			e.add("pod-mtu", "start the pod anew", "%s has an MTU of %d, and the way to other nodes takes %d: its larger packets are lost or come late", who, l.MTU, e.State.MTU)
		}
	}
}

// whose is a port of the bridge, and the pod that it belongs to.
func whose(l trace.Link) string {
	if l.Alias == "" {
		return l.Name
	}
	return l.Name + " of pod " + l.Alias
}

func (e *examination) cni() {
	c := e.CNI
	if c.Runtime == "" {
		return
	}
	var good []Conf
	for _, conf := range c.Confs {
		if conf.Err != "" {
			e.add("cni-broken", "correct it: "+conf.File, "the CNI configuration %s is of no use: %s", conf.File, conf.Err)
			continue
		}
		good = append(good, conf)
	}
	ours := slices.IndexFunc(good, func(conf Conf) bool { return slices.Contains(conf.Plugins, "tulle") })
	switch {
	case ours < 0 && len(good) == 0:
		e.add("cni-none", fmt.Sprintf("install -D -m 0644 %s %s/10-tulle.conflist", example, c.Dir), "%s has no CNI configuration, so no pod starts", c.Dir)
	case ours < 0:
		e.add("cni-other", fmt.Sprintf("install -D -m 0644 %s %s/10-tulle.conflist, and remove %s", example, c.Dir, good[0].File), "no CNI configuration names the plugin tulle; pods are attached as %s says", good[0].File)
	case ours > 0:
		e.add("cni-other", "remove "+good[0].File, "%s comes before %s, so pods are attached by %s", good[0].File, good[ours].File, few(good[0].Plugins))
	}
	if ours >= 0 && c.Plugin != "" && c.There != "" {
		e.add("cni-plugin", fmt.Sprintf("install -d %s && ln -s %s %s; or correct bin_dir in %s, and start the runtime anew", path.Dir(c.Path), c.There, c.Path, c.Config),
			"the container runtime looks for CNI plugins in %s, as %s says, and tulle is not there", path.Dir(c.Path), c.Config)
	} else if ours >= 0 && c.Plugin != "" {
		e.add("cni-plugin", "install the package tulle again, or put the program tulle at "+c.Path, "the CNI plugin %s is of no use: %s", c.Path, c.Plugin)
	}
}
