package look

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/internal/doctor"
)

// Kernel finds out what the kernel can do.
func (h *Host) Kernel() doctor.Kernel {
	k := doctor.Kernel{VXLAN: h.vxlan(), Nexthops: asks(unix.NETLINK_ROUTE, unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP, 8), NFTables: nftables()}
	_, err := exec.LookPath("iptables")
	k.Iptables = err == nil
	k.Conntracks, k.ConntrackMost = h.number("net/netfilter/nf_conntrack_count"), h.number("net/netfilter/nf_conntrack_max")
	return k
}

func (h *Host) number(sysctl string) int {
	text, _ := h.Sysctl(sysctl)
	n, _ := strconv.Atoi(text)
	return n
}

// vxlan reports whether the kernel has VXLAN: in use, loaded or built in, or
// there to be loaded.
func (h *Host) vxlan() bool {
	for _, l := range h.links {
		if l.Kind == "vxlan" {
			return true
		}
	}
	if _, err := os.Stat("/sys/module/vxlan"); err == nil {
		return true
	}
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		text, err := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(name.Release[:]) + "/" + list)
		if err == nil && strings.Contains(string(text), "/vxlan.ko") {
			return true
		}
	}
	return false
}

// body is a message's fixed header, all zero.
type body int

func (b body) Len() int          { return int(b) }
func (b body) Serialize() []byte { return make([]byte, b) }

// asks reports whether the kernel knows a question. One that it answers to root
// alone is one that it knows.
func asks(protocol, kind, flags, header int) bool {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddData(body(header))
	_, err := req.Execute(protocol, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

// nftables asks for the generation of the ruleset (NFT_MSG_GETGEN).
func nftables() bool {
	return asks(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0, 4)
}

// doctorSysctls are the settings that doctor judges, besides those of devices.
var doctorSysctls = []string{
	"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
}

// Sysctls are the settings that doctor judges.
func (h *Host) Sysctls() map[string]string {
	names := doctorSysctls
	for _, l := range h.links {
		names = append(names, "net/ipv4/conf/"+l.Name+"/forwarding", "net/ipv6/conf/"+l.Name+"/disable_ipv6")
	}
	all := map[string]string{}
	for _, name := range names {
		if value, ok := h.Sysctl(name); ok {
			all[name] = value
		}
	}
	return all
}

// Disk looks at the file system of a directory, or of the one that it would be
// made in.
func Disk(path string) doctor.Disk {
	d := doctor.Disk{Path: path}
	at := path
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			d.Err = at + " is no directory"
			return d
		}
		if err == nil || at == "/" {
			break
		}
		at = at[:max(1, strings.LastIndex(at, "/"))]
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		d.Err = err.Error()
		return d
	}
	d.ReadOnly = fs.Flags&unix.ST_RDONLY != 0
	d.Free = fs.Bavail * uint64(fs.Bsize)
	d.NoInodes = fs.Files > 0 && fs.Ffree == 0
	return d
}
