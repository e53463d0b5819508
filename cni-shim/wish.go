package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"tulle/subnet"
)

// wish is what the runtime asks for one pod, beyond what the network's
// configuration says of all.
type wish struct {
	Static    [2]netip.Addr // by family; the zero Addr: any
	MAC       string        // of the pod's end, in canonical form; empty: the one that follows from the address
	Ports     []portMapping
	Bandwidth bandwidth
}

// parseWish reads the fields capabilities, runtimeConfig and args.
func parseWish(top *object) wish {
	var w wish
	declared := top.object("capabilities")
	for _, key := range []string{"portMappings", "bandwidth", "ips", "mac"} {
		field(declared, key, false)
	}
	refuseInfiniBand(declared)
	declared.close()

	given := top.object("runtimeConfig")
	w.Ports = parsePorts(given)
	w.Bandwidth = parseBandwidth(given)
	w.addIPs(given, "ips")
	w.setMAC(given, "mac")
	refuseInfiniBand(given)
	given.close()

	args := top.object("args") // of everybody: unknown ones are not ours
	cni := args.object("cni")
	w.addIPs(cni, "ips")
	w.setMAC(cni, "mac")
	refuseInfiniBand(cni)
	return w
}

func refuseInfiniBand(o *object) {
	if raw := o.raw("infinibandGUID"); raw != nil && string(raw) != "false" {
		o.fault("infinibandGUID", "%s: a bridge carries Ethernet; InfiniBand needs a plugin of its own, such as ib-sriov", short(raw))
	}
}

// addIPs reads a list of addresses, each with or without a prefix length.
func (w *wish) addIPs(o *object, key string) {
	for i, text := range field[[]string](o, key, nil) {
		if err := w.addIP(text); err != nil {
			o.fault(key+"["+strconv.Itoa(i)+"]", "%s", err)
		}
	}
}

func (w *wish) addIP(text string) error {
	bare, _, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(bare)
	if _, bad := netip.ParsePrefix(text); err != nil || a.Zone() != "" || strings.Contains(text, "/") && bad != nil {
		return fmt.Errorf("%q is not an address such as 10.244.1.10 or 10.244.1.10/24", text)
	}
	a = a.Unmap()
	have := &w.Static[subnet.FamilyOf(a)]
	if have.IsValid() && *have != a {
		return fmt.Errorf("%s contradicts %s: a pod gets one %s address", a, have, subnet.FamilyOf(a))
	}
	*have = a
	return nil
}

func (w *wish) setMAC(o *object, key string) {
	if text := field(o, key, ""); text != "" {
		if err := w.addMAC(text); err != nil {
			o.fault(key, "%s", err)
		}
	}
}

func (w *wish) addMAC(text string) error {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return fmt.Errorf("%q is not the MAC of one interface, such as 0a:58:0a:f4:01:0a", text)
	}
	if w.MAC != "" && w.MAC != mac.String() {
		return fmt.Errorf("%s contradicts %s, which is asked for elsewhere", mac, w.MAC)
	}
	w.MAC = mac.String()
	return nil
}

// check compares the wished addresses with what the node has.
func (w wish) check(all [2]span) error {
	for family, a := range w.Static {
		if s := all[family]; a.IsValid() && !s.contains(a) {
			if !s.Bridge.IsValid() {
				return coded(types.ErrInvalidNetworkConfig, fmt.Errorf(
					"the requested address %s: this node has no %s subnet", a, subnet.Family(family)))
			}
			return coded(types.ErrInvalidNetworkConfig, fmt.Errorf(
				"the requested address %s is none that a pod of this node can have: %s to %s but for the bridge's, %s", a, s.First, s.Last, s.Bridge.Addr()))
		}
	}
	return nil
}

// bandwidth is in bits per second and bits, seen from the pod; zero rates are
// not limited.
type bandwidth struct {
	IngressRate, IngressBurst, EgressRate, EgressBurst uint64
}

func parseBandwidth(given *object) bandwidth {
	b := given.object("bandwidth")
	defer b.close()
	b.anyCase("ingressRate", "ingressBurst", "egressRate", "egressBurst")
	w := bandwidth{
		IngressRate: rate(b, "ingressRate"), IngressBurst: rate(b, "ingressBurst"),
		EgressRate: rate(b, "egressRate"), EgressBurst: rate(b, "egressBurst"),
	}
	for _, way := range []struct {
		rateKey, burstKey string
		rate, burst       uint64
	}{{"ingressRate", "ingressBurst", w.IngressRate, w.IngressBurst}, {"egressRate", "egressBurst", w.EgressRate, w.EgressBurst}} {
		// At the least a packet takes seconds, and the kernel takes not much more than the
		// most. They are those of Kubernetes.
		const least, most uint64 = 1000, 1_000_000_000_000_000
		if (way.rate == 0) != (way.burst == 0) {
			b.fault(way.burstKey, "%d contradicts %s: %d; give both, or neither", way.burst, way.rateKey, way.rate)
		}
		if way.rate > 0 && (way.rate < least || way.rate > most) {
			b.fault(way.rateKey, "%d is out of range: %d to %d bits per second", way.rate, least, most)
		}
	}
	return w
}

func rate(o *object, key string) uint64 {
	raw := o.raw(key)
	if raw == nil {
		return 0
	}
	var n uint64
	if err := json.Unmarshal(raw, &n); err != nil || n>>3 > 1<<60 {
		o.fault(key, "%s is not a whole number of bits", short(raw))
		return 0
	}
	return n
}
