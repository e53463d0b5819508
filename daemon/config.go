package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/internal/flags"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

// flagValues are the flags as they are given.
type flagValues struct {
	etcd          etcd.Config
	ifaces        []string
	ifaceRegex    string
	ifaceCanReach string
	publicIP      [2]string // by subnet.Family
	nodeName      string
	subnetFile    string
	stateDir      string
	ipMasq        bool
	guard         string
	firewall      string
	leaseTTL      time.Duration
	statusAddr    string
	probeInterval time.Duration
	meshPort      uint16
	logLevel      string
	logFormat     string
}

// automatic is the value of flags for what follows from all else.
const automatic = "auto"

// probeMost bounds the time between looks at peers.
const probeMost = 24 * time.Hour

// publicIPFlags are flannel's. The first takes an address of either family.
var publicIPFlags = [2]string{subnet.IPv4: "public-ip", subnet.IPv6: "public-ipv6"}

// config is what the flags mean: complete and valid.
type config struct {
	Etcd       etcd.Config
	Ifaces     []string
	IfaceRegex *regexp.Regexp // nil: not given
	CanReach   netip.Addr     // not valid: not given
	PublicIP   [2]netip.Addr  // by Family; not valid: the underlay's address
	Node       string
	SubnetFile string
	StateDir   string
	Masq       bool
	Guard      backend.GuardMode
	Firewall   *backend.Tool // nil: what suits the host
	TTL        time.Duration
	StatusAddr string // empty: off

	ProbeInterval time.Duration // 0: off
	MeshPort      uint16        // 0: off

	LogLevel  string
	LogFormat string

	unknownEnv []string // variables that look like ours and set nothing
}

func (f *flagValues) register(fs *pflag.FlagSet) {
	flags.Etcd(fs, &f.etcd)
	fs.StringArrayVar(&f.ifaces, "iface", nil, "`device` towards the other nodes, by name or address; given more than once, the first that exists (default the one that reaches etcd, or else the default route's)")
	fs.StringVar(&f.ifaceRegex, "iface-regex", "", "choose the device whose name or address matches this regular `expression`")
	fs.StringVar(&f.ifaceCanReach, "iface-can-reach", "", "choose the device by which the kernel reaches this `address`")
	fs.StringVar(&f.publicIP[subnet.IPv4], publicIPFlags[subnet.IPv4], "", "`address` that the other nodes reach this one at (default that of the device)")
	fs.StringVar(&f.publicIP[subnet.IPv6], publicIPFlags[subnet.IPv6], "", "IPv6 `address` that the other nodes reach this one at (default that of the device)")
	fs.StringVar(&f.nodeName, "node-name", "", "`name` of this node, unlike that of any other (default the host's name)")
	fs.StringVar(&f.subnetFile, "subnet-file", flags.SubnetFile, "`file` that tells other programs of this host about its subnet")
	fs.StringVar(&f.stateDir, "state-dir", flags.StateDir, "`folder` for what is kept over restarts")
	fs.BoolVar(&f.ipMasq, "ip-masq", true, "give the node's address to what pods send out of the cluster")
	fs.StringVar(&f.guard, "guard", automatic, "drop VXLAN packets that no peer can have sent: `mode` strict, vtep, off, or auto for strict with --ip-masq and vtep without")
	fs.StringVar(&f.firewall, "firewall", automatic, "`tool` for forwarding and masquerading: iptables, nftables, or auto for what suits the host")
	fs.DurationVar(&f.leaseTTL, "lease-ttl", 24*time.Hour, "how long the subnet stays ours when this node is away, 10s or more")
	fs.StringVar(&f.statusAddr, "status-addr", flags.StatusAddr, "`address` for /healthz, /readyz, /state and /metrics; empty: off")
	fs.DurationVar(&f.probeInterval, "probe-interval", 2*time.Second, "look at one peer through the overlay after another, each this long after the last, 100ms to 24h; 0: off")
	fs.Uint16Var(&f.meshPort, "mesh-port", 8473, "TCP `port`, on this node's own address inside the overlay, where peers ask what it reaches; 0: off")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
}

// config checks the flags, after setting those that are given in the
// environment. The error joins all faults, each with the flag's name.
func (f *flagValues) config(fs *pflag.FlagSet) (config, error) {
	var faults []error
	fault := func(flag, format string, args ...any) {
		faults = append(faults, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if err := flags.FromEnv(fs); err != nil {
		faults = append(faults, err)
	}
	c := config{
		Etcd: f.etcd, Ifaces: slices.DeleteFunc(f.ifaces, func(name string) bool { return name == "" }), Node: f.nodeName, SubnetFile: f.subnetFile, StateDir: f.stateDir, Masq: f.ipMasq,
		TTL: f.leaseTTL, StatusAddr: f.statusAddr, ProbeInterval: f.probeInterval, MeshPort: f.meshPort, LogLevel: f.logLevel, LogFormat: f.logFormat, unknownEnv: flags.Unknown(fs),
	}
	if err := c.Etcd.Check(); err != nil {
		faults = append(faults, err)
	}
	ways := 0
	for _, given := range []bool{len(c.Ifaces) > 0, f.ifaceRegex != "", f.ifaceCanReach != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		fault("iface", "give only one of --iface, --iface-regex and --iface-can-reach")
	}
	var err error
	if f.ifaceRegex != "" {
		if c.IfaceRegex, err = regexp.Compile(f.ifaceRegex); err != nil {
			fault("iface-regex", "%v", err)
		}
	}
	if f.ifaceCanReach != "" {
		if c.CanReach, err = netip.ParseAddr(f.ifaceCanReach); err != nil {
			fault("iface-can-reach", "%q is not an address such as 192.0.2.1", f.ifaceCanReach)
		}
	}
	for i, text := range f.publicIP {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || !subnet.IsHost(a) || subnet.Family(i) == subnet.IPv6 && a.Is4():
			fault(publicIPFlags[i], "%q is not an address of one host such as %s", text, [2]string{"192.0.2.10", "2001:db8::10"}[i])
		case c.PublicIP[subnet.FamilyOf(a)].IsValid():
			fault(publicIPFlags[i], "%s contradicts %s, which --%s gives", a, c.PublicIP[subnet.FamilyOf(a)], publicIPFlags[subnet.IPv4])
		default:
			c.PublicIP[subnet.FamilyOf(a)] = a
		}
	}
	if c.Node == "" {
		if c.Node, err = os.Hostname(); err != nil {
			fault("node-name", "not given, and the host's name can't be read: %v", err)
		}
	}
	if strings.TrimSpace(c.Node) != c.Node || c.Node == "" || c.Node == "localhost" {
		fault("node-name", "%q does not tell this node from others; set the host's name or give another", c.Node)
	}
	if err := subnet.CheckNode(c.Node); err != nil {
		fault("node-name", "%v", err)
	}
	switch {
	case f.guard != automatic:
		if c.Guard, err = backend.ParseGuardMode(f.guard); err != nil {
			fault("guard", "%q is not strict, vtep, off or auto", f.guard)
		}
	case c.Masq:
		c.Guard = backend.GuardStrict
	default:
		// Without masquerading, nodes may forward packets with any source.
		c.Guard = backend.GuardVTEP
	}
	if f.firewall != automatic {
		tool, err := firewall.ParseTool(f.firewall)
		if err != nil {
			fault("firewall", "%v", err)
		}
		c.Firewall = &tool
	}
	if c.TTL < 10*time.Second {
		fault("lease-ttl", "%s is too short: 10s or more, and longer than a node may be away", c.TTL)
	}
	if c.ProbeInterval != 0 && c.ProbeInterval < 100*time.Millisecond {
		fault("probe-interval", "%s is too short: 100ms or more, or 0 for off", c.ProbeInterval)
	}
	if c.ProbeInterval > probeMost {
		fault("probe-interval", "%s is too long: %s or less, or 0 for off", c.ProbeInterval, probeMost)
	}
	if c.StatusAddr != "" {
		_, port, err := net.SplitHostPort(c.StatusAddr)
		if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
			fault("status-addr", "%q is not an address with a port such as %s", c.StatusAddr, flags.StatusAddr)
		}
	}
	if c.SubnetFile == "" {
		fault("subnet-file", "is empty; the CNI plugin needs that file")
	}
	if c.StateDir == "" {
		fault("state-dir", "is empty")
	}
	if _, err := logger(c.LogLevel, c.LogFormat); err != nil {
		faults = append(faults, err)
	}
	return c, errors.Join(faults...)
}

// public is the address that peers reach us at, by Family.
func (c config) public(underlay [2]netip.Addr) [2]netip.Addr {
	for f, a := range c.PublicIP {
		if a.IsValid() {
			underlay[f] = a
		}
	}
	return underlay
}
