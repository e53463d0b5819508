package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
)

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	link := func(h *netlink.Handle, name string, f func(netlink.Link) error) error {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return f(l)
	}
	const ours = "10.244.60.2/24"
	tests := []struct {
		name  string
		spoil func(h *host, p *testPod) error
		want  []string // none: all is well
	}{
		{"nothing", func(*host, *testPod) error { return nil }, nil},
		{"an address more", func(h *host, p *testPod) error {
			return link(p.Handle, "eth0", func(l netlink.Link) error { return p.AddrAdd(l, addr("192.0.2.1/24")) })
		}, nil},
		{"interface deleted", func(h *host, p *testPod) error {
			return link(p.Handle, "eth0", p.LinkDel)
		}, []string{"interface eth0 is missing", "route 0.0.0.0/0 via 10.244.60.1", "route ::/0 via fd42:0:0:3::1", "is missing on the host"}},
		{"interface down", func(h *host, p *testPod) error {
			return link(p.Handle, "eth0", p.LinkSetDown)
		}, []string{"interface eth0 in the pod is down"}},
		{"another mac", func(h *host, p *testPod) error {
			return link(p.Handle, "eth0", func(l netlink.Link) error {
				return p.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 1})
			})
		}, []string{"02:00:00:00:00:01", "0a:58:0a:f4:3c:02"}},
		{"address removed", func(h *host, p *testPod) error {
			return link(p.Handle, "eth0", func(l netlink.Link) error { return p.AddrDel(l, addr("fd42:0:0:3::2/64")) })
		}, []string{"address fd42:0:0:3::2/64 is missing on eth0"}},
		{"default route removed", func(h *host, p *testPod) error {
			return p.RouteDel(&netlink.Route{Gw: net.IPv4(10, 244, 60, 1)})
		}, []string{"route 0.0.0.0/0 via 10.244.60.1 is missing"}},
		{"veth taken from the bridge", func(h *host, p *testPod) error {
			return link(h.Handle, p.hostName(), h.LinkSetNoMaster)
		}, []string{p1Host + " is not attached to bridge cni0"}},
		{"hairpin switched off", func(h *host, p *testPod) error {
			return link(h.Handle, p.hostName(), func(l netlink.Link) error { return h.LinkSetHairpin(l, false) })
		}, []string{"hairpin mode of " + p1Host + " is false, not true"}},
		{"host's end down", func(h *host, p *testPod) error {
			return link(h.Handle, p.hostName(), h.LinkSetDown)
		}, []string{p1Host + " on the host is down"}},
		{"bridge deleted", func(h *host, p *testPod) error {
			return link(h.Handle, "cni0", h.LinkDel)
		}, []string{"not attached to bridge cni0", "gateway 10.244.60.1 is missing on bridge cni0", "gateway fd42:0:0:3::1"}},
		{"reservation lost", func(h *host, p *testPod) error {
			return os.Remove(filepath.Join(h.dataDir, "tulle", "10.244.60.2"))
		}, []string{"address 10.244.60.2 is not reserved"}},
		{"reservation of somebody else", func(h *host, p *testPod) error {
			return os.WriteFile(filepath.Join(h.dataDir, "tulle", "10.244.60.2"), []byte("other\r\neth0"), 0o600)
		}, []string{"address 10.244.60.2 is not reserved"}},
		{"two faults", func(h *host, p *testPod) error {
			if err := link(p.Handle, "eth0", func(l netlink.Link) error { return p.AddrDel(l, addr(ours)) }); err != nil {
				return err
			}
			return os.RemoveAll(h.dataDir)
		}, []string{"address " + ours + " is missing", "address 10.244.60.2 is not reserved", "address fd42:0:0:3::2 is not reserved"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, twoFamilies), newPod(t, "pod1")
			list := h.conf("1.0.0", "")
			h.mustAdd(list, p)
			if err := tt.spoil(h, p); err != nil {
				t.Fatal(err)
			}
			h.wantFaults(list, p, tt.want)
		})
	}
}

// wantFaults checks that CHECK names these faults of a pod, or none.
func (h *host) wantFaults(list *libcni.NetworkConfigList, p *testPod, want []string) {
	h.Helper()
	err := h.check(list, p)
	if len(want) > 0 {
		wantError(h, "CHECK", err, types.ErrInternal, append(want, "container pod1")...)
	} else if err != nil {
		h.Errorf("CHECK = %v, want no error", err)
	}
}

// p1Host is the host's end of pod1's eth0. It must never change: a newer plugin
// must find what an older one made.
const p1Host = "veth788a104c256"

func addr(s string) *netlink.Addr {
	a, err := netlink.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// Beside what the result tells, CHECK looks at what the runtime asked for.
func TestCheckNamesMissingShapersAndRules(t *testing.T) {
	t.Parallel()
	const ifb = "ifb.788a104c256"
	ingress := func(h *host) *netlink.Ingress {
		l, err := h.LinkByName(p1Host)
		if err != nil {
			h.Fatal(err)
		}
		return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_INGRESS, Handle: netlink.MakeHandle(0xffff, 0)}}
	}
	tests := []struct {
		name  string
		spoil func(h *host) error
		want  []string
	}{
		{"nothing", func(*host) error { return nil }, nil},
		{"no bucket", func(h *host) error { return h.QdiscDel(h.bucket(p1Host)) },
			[]string{"limit of 8000000 bit/s for what the pod receives is missing on " + p1Host}},
		{"another bucket", func(h *host) error {
			b := h.bucket(ifb)
			b.Rate *= 2
			return h.QdiscReplace(b)
		}, []string{"limit of 16000000 bit/s for what the pod sends is missing on " + ifb}},
		{"no shaper", func(h *host) error {
			_, err := deleteLink(h.Handle, ifb)
			return err
		}, []string{"limit of 16000000 bit/s for what the pod sends is missing on " + ifb, "what the pod sends is not led through " + ifb}},
		{"nothing is led through the shaper", func(h *host) error { return h.QdiscDel(ingress(h)) },
			[]string{"what the pod sends is not led through " + ifb}},
		{"a chain without rules", func(h *host) error {
			return h.do(func() error {
				text, err := run("nft", "flush", "chain", "ip6", portTable, "prerouting")
				if err != nil {
					return fmt.Errorf("%w: %s", err, text)
				}
				return nil
			})
		}, []string{"rules of nftables table ip6 " + portTable + " are not as they should be"}},
		{"another plugin's rules", func(h *host) error {
			return h.do(func() error {
				text, err := run("nft", "add", "table", "ip", "somebody")
				if err != nil {
					return fmt.Errorf("%w: %s", err, text)
				}
				return nil
			})
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, twoFamilies), newPod(t, "pod1")
			p.capabilities = p.ports("8080>80/tcp")
			p.capabilities["bandwidth"] = map[string]int{"ingressRate": 8e6, "ingressBurst": 8e5, "egressRate": 16e6, "egressBurst": 8e5}
			list := h.conf("1.0.0", `"capabilities": {"portMappings": true, "bandwidth": true}`)
			h.mustAdd(list, p)
			if err := tt.spoil(h); err != nil {
				t.Fatal(err)
			}
			h.wantFaults(list, p, tt.want)
		})
	}
}

func TestCheckWithoutPrevResult(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.0.0", "")
	h.mustAdd(list, p)
	if err := os.RemoveAll(filepath.Join(filepath.Dir(h.dataDir), "cache")); err != nil {
		t.Fatal(err)
	}
	wantError(t, "CHECK", h.check(list, p), types.ErrInvalidNetworkConfig, "prevResult")
}

func TestCheckDoesNotNeedTheSubnetFile(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		list := h.conf(version, "")
		h.setSubnet(oneFamily)
		h.mustAdd(list, p)
		h.setSubnet("")
		if err := h.check(list, p); err != nil {
			t.Errorf("CHECK in version %s: %v", version, err)
		}
		if err := h.del(list, p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDifferencesOfEqualWiringsAreNone(t *testing.T) {
	t.Parallel()
	w := wiring{PodLink: "eth0", PodUp: true, HostLink: "veth", HostUp: true, Master: "cni0", Hairpin: true}
	if got := w.differences(w); len(got) > 0 {
		t.Errorf("differences(same) = %s, want none", strings.Join(got, "; "))
	}
}

// What a runtime or a plugin before us left out of a result is told and not stumbled over.
func TestPrevResultThatIsNotWhole(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	for _, tt := range []struct{ name, prev, text string }{
		{"an interface that is null", `"interfaces": [null]`, "prevResult: interfaces[0] is null"},
		{"an address that is null", `"ips": [null]`, "prevResult: ips[0] has no address"},
		{"an address that is missing", `"ips": [{"interface": 0}]`, "prevResult: ips[0] has no address"},
		{"an address that is null after a good one", `"ips": [{"address": "192.0.2.5/24"}, null]`, "prevResult: ips[1] has no address"},
		{"an interface that there is not", `"ips": [{"address": "192.0.2.5/24", "interface": 1}]`, "prevResult: ips[0].interface: 1 is none of the 1 interfaces"},
		{"an interface before the first", `"ips": [{"address": "192.0.2.5/24", "interface": -1}]`, "prevResult: ips[0].interface: -1 is none"},
		{"a route that is null", `"routes": [null]`, "prevResult: routes[0] has no destination"},
		{"a route to nowhere", `"routes": [{"gw": "192.0.2.1"}]`, "prevResult: routes[0] has no destination"},
	} {
		prev := `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "x"}], ` + tt.prev + `}`
		list := h.conf("1.1.0", `"prevResult": `+prev)
		for _, verb := range []string{"ADD", "CHECK"} {
			wantError(t, verb+" with "+tt.name, h.refusal(list, p, verb), types.ErrDecodingFailure, tt.text)
		}
		if err := h.refusal(list, p, "DEL"); err != nil {
			t.Errorf("DEL with %s: %v", tt.name, err)
		}
	}
	h.wantNothing("results that are not whole")
}

// Whatever an earlier plugin answered, it is refused, or CHECK can look for it and ADD can
// hand it on in the version that is asked for.
func FuzzPrevResult(f *testing.F) {
	f.Add("1.1.0", `{"interfaces": [null], "ips": [null], "routes": [null]}`)
	f.Add("0.4.0", `{"ips": [{"version": "4", "address": "192.0.2.5/24", "interface": 0}], "interfaces": [{"name": "eth0", "sandbox": "x"}]}`)
	f.Add("1.0.0", `{"interfaces": [{"name": "eth0", "sandbox": "x"}], "ips": [{"address": "::1/128", "interface": 0, "gateway": "::"}], "routes": [{"dst": "::/0"}], "dns": null}`)
	f.Add("0.3.1", `{"ips": [{"interface": -1, "address": "1.2.3.4/33"}]}`)
	f.Fuzz(func(t *testing.T, version, text string) {
		if !slices.Contains([]string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}, version) {
			return // the library refuses it
		}
		conf := netconf{CNIVersion: version, Name: "tulle", PrevResult: []byte(text)}
		r, err := prevResult(conf)
		if err != nil {
			if codeOf(err) != types.ErrDecodingFailure {
				t.Errorf("prevResult(%s) = %v, want an error with code %d", text, err, types.ErrDecodingFailure)
			}
			return
		}
		if w, err := wantWiring(conf, attachment{"pod1", "eth0"}, r); err == nil {
			w.differences(wiring{})
		}
		if _, err := r.GetAsVersion(version); err != nil {
			t.Errorf("%s is taken, and cannot be handed on: %v", text, err)
		}
	})
}
