package doctor

import (
	"fmt"
	"strings"
	"time"

	"tulle/subnet"
)

// host looks at the kernel, its settings, and the disk.
func (e *examination) host() {
	if !e.Kernel.VXLAN {
		e.add("kernel-vxlan", "modprobe vxlan; where that fails, install the kernel's package of further modules (linux-modules-extra-$(uname -r) on Ubuntu)",
			"the kernel has no VXLAN: the module vxlan is neither loaded, nor built in, nor there to be loaded")
	}
	if !e.Kernel.Nexthops {
		e.add("kernel-nexthop", "install a kernel of Linux 5.3 or newer", "the kernel has no nexthop objects; with thousands of nodes it is slow to follow changes")
	}
	switch {
	case !e.Kernel.NFTables && !e.Kernel.Iptables:
		e.add("iptables", "modprobe nf_tables; or apt-get install iptables, or the package of that name of another distribution", "there is neither nftables in the kernel nor the program iptables, and tulled needs one of them for its rules")
	case !e.Kernel.NFTables:
		e.add("kernel-nftables", "modprobe nf_tables", "the kernel has no nftables, so nothing drops VXLAN packets of strangers, and the CNI plugin can lead no host port to a pod")
	}
	if most := e.Kernel.ConntrackMost; most > 0 && e.Kernel.Conntracks > most*9/10 {
		e.add("conntrack", fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*most),
			"the kernel keeps track of %d connections and can of %d: when that is full, new ones are dropped", e.Kernel.Conntracks, most)
	}
	e.settings()
	for _, d := range e.Disks {
		switch {
		case d.Err != "":
			e.add("disk", "mkdir -p "+d.Path, "%s, which tulled writes to, is of no use: %s", d.Path, d.Err)
		case d.ReadOnly:
			e.add("disk", "mount -o remount,rw \"$(findmnt -n -o TARGET --target "+d.Path+")\"", "%s, which tulled writes to, is read-only", d.Path)
		case d.NoInodes:
			e.add("disk", "df -i "+d.Path+"; remove files that nobody needs", "%s, which tulled writes to, is on a file system that can hold no more files", d.Path)
		case d.Free < leastFree:
			e.add("disk", "df -h "+d.Path+"; remove what fills it", "%s, which tulled writes to, is on a full file system: %d KiB are free", d.Path, d.Free>>10)
		}
	}
}

// leastFree is what the state file of a large network needs, twice.
const leastFree = 4 << 20

// settings looks at the kernel's.
func (e *examination) settings() {
	for family, prefix := range e.Subnets {
		if !prefix.IsValid() {
			continue
		}
		name, all := "ipv4", "net/ipv4/ip_forward"
		if subnet.Family(family) == subnet.IPv6 {
			name, all = "ipv6", "net/ipv6/conf/all/forwarding"
		}
		if e.Sysctls[all] == "0" {
			e.add("forwarding", "sysctl -w "+dotted(all)+"=1", "%s is 0, so this host forwards nothing for pods", dotted(all))
			continue
		}
		if name == "ipv6" {
			continue // what a device says there is another thing
		}
		for _, l := range e.Links {
			path := "net/ipv4/conf/" + l.Name + "/forwarding"
			if l.Name == e.State.Device || l.Name == e.Bridge {
				if e.Sysctls[path] == "0" {
					e.add("forwarding", "sysctl -w "+dotted(path)+"=1", "%s is 0, so this host forwards nothing that comes in by %s", dotted(path), l.Name)
				}
			}
		}
	}
	bridge, there := e.link(e.Bridge)
	if !there && e.CNI.Runtime == "" {
		return // nobody attaches pods
	}
	for family, call := range []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
		if !e.Subnets[family].IsValid() || bridge.Calls[family] {
			continue
		}
		value, there := e.Sysctls[call]
		switch {
		case !there:
			e.add("bridge-netfilter", "modprobe br_netfilter && echo br_netfilter > /etc/modules-load.d/tulle.conf && systemctl restart tulled",
				"%s is not there, because the module br_netfilter is not loaded: pods do not reach service addresses whose pod is on their own node", dotted(call))
		case value == "0":
			e.add("bridge-netfilter", "sysctl -w "+dotted(call)+"=1", "%s is 0: pods do not reach service addresses whose pod is on their own node", dotted(call))
		}
	}
}

// dotted is a setting's path as sysctl(8) takes it.
func dotted(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

// mostSkew is how far a clock may be off, and leastCert how long a certificate is
// to be good for.
const (
	mostSkew  = 5 * time.Second
	leastCert = 7 * 24 * time.Hour
)

// curl asks the first endpoint of etcd for its health, as tulled would.
func (e *examination) curl() string {
	words := []string{"curl", "-sS"}
	s := e.State.Etcd
	for _, o := range [][2]string{{"--cacert", s.CAFile}, {"--cert", s.CertFile}, {"--key", s.KeyFile}} {
		if o[1] != "" {
			words = append(words, o[0], o[1])
		}
	}
	endpoint := "ENDPOINT"
	if len(s.Endpoints) > 0 {
		endpoint = s.Endpoints[0]
	}
	return strings.Join(append(words, endpoint+"/health"), " ")
}

// etcd looks at what etcd answers.
func (e *examination) etcd() {
	c := e.Etcd
	if !c.Asked {
		return
	}
	switch {
	case c.Silent != "":
		e.add("etcd-silent", "see whether etcd runs and whether the endpoint is right: "+e.curl(), "etcd does not answer: %s", c.Silent)
	case c.Refused != "":
		e.add("etcd-refuses", "correct the user, the password or the certificate; grant the role what Documentation/etcd-security.md tells", "etcd does not let tulle read: %s", c.Refused)
	case c.NoNetwork != "":
		e.add("etcd-no-network", "tullectl network set --network 10.244.0.0/16", "%s", c.NoNetwork)
	}
	if c.ReadOnly != "" {
		e.add("etcd-read-only", "where a right is missing: etcdctl role grant-permission ROLE --prefix=true readwrite "+e.State.Etcd.Prefix+"/subnets/; where etcd is full: etcdctl defrag && etcdctl alarm disarm",
			"etcd lets tulle read and not write, so no lease can be taken nor altered: %s", c.ReadOnly)
	}
	if c.Lease != "" {
		e.add("etcd-lease", "systemctl restart tulled; journalctl -u tulled says what it does", "%s", c.Lease)
	}
	if c.CertFile != "" && c.CertLeft < leastCert {
		left := "runs out in " + c.CertLeft.Round(time.Hour).String()
		if c.CertLeft <= 0 {
			left = "has run out"
		}
		e.add("etcd-certificate", "renew it, as Documentation/etcd-security.md tells; tulled need not be restarted", "the certificate for etcd in %s %s", c.CertFile, left)
	}
	if c.SkewKnown && (c.Skew > mostSkew || c.Skew < -mostSkew) {
		way := "behind"
		ahead := c.Skew
		if c.Skew > 0 {
			way = "ahead of"
		} else {
			ahead = -ahead
		}
		e.add("clock", "timedatectl set-ntp true", "this host's clock is %s %s that of etcd: certificates and the state file are judged wrongly", ahead.Round(time.Second), way)
	}
}
