package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
)

// netconf is the network configuration as the runtime hands it over: complete,
// with all defaults set, and valid.
type netconf struct {
	CNIVersion     string
	Name           string
	SubnetFile     string
	Bridge         string
	MTU            int // 0: that of the subnet file
	Hairpin        bool
	DefaultGateway bool
	Promisc        bool
	DataDir        string     // reservations of all networks; ours are in the directory Name
	RangeStart     netip.Addr // zero: all of the subnet
	RangeEnd       netip.Addr
	Routes         []route // beside those that follow from the subnet file
	FlannelDir     string  // where flannel's plugin kept a file per container
	DNS            types.DNS
	Wish           wish            // of the runtime, for this pod
	PrevResult     json.RawMessage // nil: not given

	// Valid are the attachments that GC keeps; nil when the runtime did not
	// say, which is not the same as none.
	Valid []types.GCAttachment
}

const (
	defaultSubnetFile = "/run/tulle/subnet.env"
	defaultBridge     = "cni0"
	defaultDataDir    = "/var/lib/cni/networks"
	defaultFlannelDir = "/var/lib/cni/flannel"
)

// parseNetconf reads the JSON form. The error tells all faults, each with the
// name of its field; the netconf is then what could be read, with the defaults
// in place of the faulty fields.
func parseNetconf(text []byte) (netconf, error) {
	var f faults
	top := parseObject(text, "", &f)
	d := top.delegate()
	c := netconf{
		CNIVersion:     field(top, "cniVersion", ""),
		Name:           field(top, "name", ""),
		SubnetFile:     path(top, "subnetFile", defaultSubnetFile),
		Bridge:         shared(top, d, "bridge", defaultBridge),
		MTU:            shared(top, d, "mtu", 0),
		Hairpin:        shared(top, d, "hairpinMode", d.fields == nil),
		DefaultGateway: shared(top, d, "isDefaultGateway", d.fields == nil),
		Promisc:        shared(top, d, "promiscMode", false),
		FlannelDir:     path(top, "dataDir", defaultFlannelDir),
		PrevResult:     top.raw("prevResult"),
	}
	d.close()
	if err := utils.ValidateNetworkName(c.Name); err != nil {
		top.fault("name", "%q: %s", c.Name, err.Msg)
		c.Name = ""
	}
	if err := utils.ValidateInterfaceName(c.Bridge); err != nil {
		top.fault("bridge", "%q: %s", c.Bridge, err.Msg)
	} else if strings.Contains(c.Bridge, "%") {
		top.fault("bridge", "%q: a percent sign makes the kernel invent a name", c.Bridge)
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		top.fault("mtu", "%d is out of range: 576 to 65535, or 0 for that of the subnet file", c.MTU)
	}
	if c.Promisc && c.Hairpin {
		top.fault("promiscMode", "true contradicts hairpinMode: true; a bridge in promiscuous mode would send a pod's packet back to it twice")
	}
	for _, key := range []string{"type", "cniVersions", "disableCheck", "disableGC"} {
		top.raw(key) // what the specification puts here, and what holds for the list as a whole
	}
	c.Wish = parseWish(top)
	c.parseIPAM(top)
	dns := top.object("dns")
	c.DNS = types.DNS{
		Nameservers: field[[]string](dns, "nameservers", nil),
		Domain:      field(dns, "domain", ""),
		Search:      field[[]string](dns, "search", nil),
		Options:     field[[]string](dns, "options", nil),
	}
	dns.close()

	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		if _, given := top.fields[key]; given {
			if c.Valid == nil {
				c.Valid = []types.GCAttachment{}
			}
			c.Valid = append(c.Valid, field[[]types.GCAttachment](top, key, nil)...)
		}
	}
	top.close()
	return c, f.err()
}

// parseIPAM reads how addresses are shared out.
func (c *netconf) parseIPAM(top *object) {
	ipam := top.object("ipam")
	c.DataDir = path(ipam, "dataDir", defaultDataDir)
	c.Routes = parseRoutes(ipam)
	c.RangeStart = unzoned(ipam, "rangeStart")
	c.RangeEnd = unzoned(ipam, "rangeEnd")
	if c.RangeStart.IsValid() && c.RangeEnd.IsValid() {
		switch {
		case c.RangeStart.Is4() != c.RangeEnd.Is4():
			ipam.fault("rangeEnd", "%s is of another family than rangeStart: %s", c.RangeEnd, c.RangeStart)
		case c.RangeEnd.Less(c.RangeStart):
			ipam.fault("rangeEnd", "%s lies before rangeStart: %s", c.RangeEnd, c.RangeStart)
		}
	}
	if t := field(ipam, "type", "host-local"); t != "host-local" {
		ipam.fault("type", "%q: tulle allocates addresses itself, in the way of host-local; leave it out", t)
	}
	ipam.close()
}

// unzoned reads a field that is an address of the kind that an interface can have
// anywhere.
func unzoned(o *object, key string) netip.Addr {
	a := field(o, key, netip.Addr{})
	if a.Zone() != "" || a.Is4In6() {
		o.fault(key, "%s is not an address such as \"10.244.1.10\"", a)
		return netip.Addr{}
	}
	return a
}

// path reads a field that is the absolute path of a file or directory.
func path(o *object, key, absent string) string {
	p := field(o, key, absent)
	if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) {
		o.fault(key, "%q is not an absolute path such as %s", p, absent)
		return absent
	}
	return filepath.Clean(p)
}

func (f *faults) err() error {
	if len(f.texts) == 0 {
		return nil
	}
	code := types.ErrInvalidNetworkConfig
	if f.unknown == len(f.texts) {
		code = types.ErrUnsupportedField
	}
	return coded(code, errors.New("network configuration: "+strings.Join(f.texts, "; ")))
}
