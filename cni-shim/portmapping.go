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

// contradicts reports whether two for the same port of the node lead to different ones of the
// pod. One for a single address goes before one for all.
func (p portMapping) contradicts(other portMapping) bool {
	all := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	if p.Port == other.Port || all(p.HostIP) != all(other.HostIP) {
		return false
	}
	return !p.HostIP.IsValid() || !other.HostIP.IsValid() || p.HostIP == other.HostIP
}

// parsePorts reads the field portMappings of runtimeConfig.
func parsePorts(given *object) []portMapping {
	type place struct {
		protocol uint8
		port     uint16
	}
	var ports []portMapping
	at := map[place][]int{} // where those for a port of the node stand in the list
	read := map[int]portMapping{}
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
		here := place{p.Protocol, p.HostPort}
		for _, j := range at[here] {
			if p.contradicts(read[j]) {
				o.fault("containerPort", "%d contradicts portMappings[%d], which leads %s", p.Port, j, read[j])
				break
			}
		}
		if len(given.faults.texts) == before {
			ports, read[i], at[here] = append(ports, p), p, append(at[here], i)
		}
	}
	return ports
}

func port(o *object, key string) uint16 {
	before := len(o.faults.texts)
	n := field(o, key, 0)
	if n >= 1 && n <= 65535 {
		return uint16(n)
	}
	if len(o.faults.texts) == before { // or else it is told already
		o.fault(key, "%d is out of range: 1 to 65535", n)
	}
	return 0
}
