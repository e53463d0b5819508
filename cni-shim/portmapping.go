package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// portMapping leads a port of the node to a port of the pod.
type portMapping struct {
	HostIP   netip.Addr // zero: every address of the node, in both families
	HostPort uint16
	Protocol uint8
	Port     uint16 // the pod's
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func (p portMapping) String() string {
	name := ""
	for text, number := range protocols {
		if number == p.Protocol {
			name = text
		}
	}
	host := "*"
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	return fmt.Sprintf("%s %s port %d to pod port %d", name, host, p.HostPort, p.Port)
}

// covers reports whether the mapping holds for a pod's address of the family.
func (p portMapping) covers(f subnet.Family) bool {
	return !p.HostIP.IsValid() || subnet.FamilyOf(p.HostIP) == f
}

// parsePorts reads the field portMappings of runtimeConfig.
func parsePorts(given *object) []portMapping {
	var ports []portMapping
	for i, raw := range field[[]json.RawMessage](given, "portMappings", nil) {
		o := parseObject(raw, given.path+"portMappings["+strconv.Itoa(i)+"].", given.faults)
		if o.fields == nil {
			continue
		}
		o.anyCase("hostPort", "containerPort", "protocol", "hostIP")
		before := len(given.faults.texts)
		p := portMapping{HostPort: port(o, "hostPort"), Port: port(o, "containerPort")}
		name := strings.ToLower(field(o, "protocol", "tcp"))
		if name == "" {
			name = "tcp"
		}
		var ok bool
		if p.Protocol, ok = protocols[name]; !ok {
			o.fault("protocol", "%q is not one of tcp, udp, sctp", name)
		}
		if text := field(o, "hostIP", ""); text != "" {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" {
				o.fault("hostIP", "%q is not an address of this node", text)
			} else if a = a.Unmap(); !a.IsUnspecified() {
				p.HostIP = a
			} else if a.Is4() {
				p.HostIP = netip.IPv4Unspecified()
			} else {
				p.HostIP = netip.IPv6Unspecified()
			}
		}
		o.close()
		if len(given.faults.texts) == before {
			ports = append(ports, p)
		}
	}
	return ports
}

func port(o *object, key string) uint16 {
	n := field(o, key, 0)
	if n < 1 || n > 65535 {
		o.fault(key, "%d is out of range: 1 to 65535", n)
		return 0
	}
	return uint16(n)
}
