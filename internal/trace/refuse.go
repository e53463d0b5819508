package trace

import (
	"fmt"
	"strings"
)

// refused ends the way of a packet that settings of the device that it came in by
// keep out. The kernel itself then only says that there is no route.
func (t *tracer) refused() bool {
	if !t.forward {
		return false
	}
	if _, local := t.Owner(t.packet.Dst); !local {
		if dev, setting, off := t.closed(); off {
			t.lost(fmt.Sprintf("%s does not forward what comes in by it", dev), "sysctl -w "+setting+"=1")
			return true
		}
	}
	t.reverse()
	return t.trace.End.Where != ""
}

// closed reports whether the device that the packet comes in by does not
// forward, and the setting.
func (t *tracer) closed() (dev, setting string, off bool) {
	family := "ipv4"
	if t.packet.Dst.Is6() {
		family = "ipv6"
	}
	dev = t.packet.In
	if family == "ipv6" {
		dev = "all" // what a device says there is another thing
	}
	setting = fmt.Sprintf("net.%s.conf.%s.forwarding", family, strings.ReplaceAll(dev, ".", "/"))
	value, ok := t.Sysctl("net/" + family + "/conf/" + dev + "/forwarding")
	return dev, setting, ok && value == "0"
}

// reverse ends the way of a packet that its device drops because answers would go
// another way.
func (t *tracer) reverse() {
	if !t.packet.Src.Is4() {
		return
	}
	strict := "0"
	for _, dev := range []string{"all", t.packet.In} {
		if v, _ := t.Sysctl("net/ipv4/conf/" + dev + "/rp_filter"); v > strict {
			strict = v
		}
	}
	if strict != "1" {
		return
	}
	back, err := t.Route(Question{Dst: t.packet.Src})
	if err != nil || back.Dev != t.packet.In {
		t.lost(fmt.Sprintf("rp_filter of %s drops it, for the way back to %s is by %s", t.packet.In, t.packet.Src, orNone(back.Dev)),
			fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", strings.ReplaceAll(t.packet.In, ".", "/")))
	}
}

func orNone(dev string) string {
	if dev == "" {
		return "no device"
	}
	return dev
}
