package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// modes are those of the bridge, as ip(8) tells them.
func (h *host) modes(bridge string) map[string]any {
	h.Helper()
	var links []struct {
		LinkInfo struct {
			Data map[string]any `json:"info_data"`
		} `json:"linkinfo"`
	}
	err := h.do(func() error {
		text, err := exec.Command("ip", "-details", "-json", "link", "show", bridge).Output()
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &links)
	})
	if err != nil || len(links) != 1 {
		h.Fatalf("ip link show %s: %v, %v", bridge, links, err)
	}
	return links[0].LinkInfo.Data
}

// Bridges start in the mode that the host has for all of them; where that is off, the
// rules of kube-proxy must see this bridge all the same, and no other one.
func TestRulesSeeTheBridgeOfKubernetesPods(t *testing.T) {
	t.Parallel()
	h := newHost(t, twoFamilies)
	if err := h.do(func() error {
		for _, name := range []string{"iptables", "ip6tables"} {
			if err := setSysctl("net/bridge/bridge-nf-call-"+name, "0"); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Skipf("needs br_netfilter: %v", err)
	}
	h.mustAdd(h.conf("1.1.0", ""), newPod(t, "plain"))
	h.mustAdd(h.network("other", "1.1.0", `"bridge": "other0", "isDefaultGateway": false`), newPod(t, "elsewhere"))
	check := func(when, bridge string, want float64) {
		t.Helper()
		modes := h.modes(bridge)
		for _, mode := range []string{"nf_call_iptables", "nf_call_ip6tables"} {
			if got := modes[mode]; got != want {
				t.Errorf("%s: %s of %s is %v, want %v", when, mode, bridge, got, want)
			}
		}
	}
	check("without Kubernetes", "cni0", 0)
	p := newPod(t, "pod1")
	p.args = [][2]string{{"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web"}}
	h.mustAdd(h.conf("1.1.0", ""), p)
	check("with a pod of Kubernetes", "cni0", 1)
	check("the other bridge", "other0", 0)
}

func TestBridgeThatSomebodyAlteredIsRepaired(t *testing.T) {
	t.Parallel()
	h := newHost(t, twoFamilies)
	list := h.conf("1.1.0", "")
	h.mustAdd(list, newPod(t, "pod1"))
	want := map[string]string{
		"net/ipv4/conf/cni0/proxy_arp":    "0",
		"net/ipv6/conf/cni0/accept_ra":    "0",
		"net/ipv6/conf/cni0/accept_dad":   "0",
		"net/ipv6/conf/cni0/disable_ipv6": "0",
	}
	read := func(when string) {
		t.Helper()
		if err := h.do(func() error {
			for key, value := range want {
				text, err := os.ReadFile("/proc/sys/" + key)
				if err != nil {
					return err
				}
				if got := strings.TrimSpace(string(text)); got != value {
					t.Errorf("%s: %s is %s, want %s", when, key, got, value)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		br, err := h.LinkByName("cni0")
		if err != nil {
			t.Fatal(err)
		}
		if got := br.Attrs(); got.MTU != 1450 || got.RawFlags&1 == 0 {
			t.Errorf("%s: mtu %d and flags %s, want 1450 and up", when, got.MTU, got.Flags)
		}
		addrs, err := addrsAt(h, br.Attrs().Index)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{"10.244.60.1/24", "fd42:0:0:3::1/64"} {
			if !strings.Contains(addrs, a+" ") {
				t.Errorf("%s: the bridge has %s, want %s", when, addrs, a)
			}
		}
	}
	read("when it is made")
	if err := h.do(func() error {
		for key := range want {
			if err := setSysctl(key, "1"); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	br, err := h.LinkByName("cni0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetMTU(br, 1300); err != nil {
		t.Fatal(err)
	}
	if err := h.AddrDel(br, addr("10.244.60.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetDown(br); err != nil {
		t.Fatal(err)
	}
	h.mustAdd(list, newPod(t, "pod2"))
	read("after an ADD")
}

func addrsAt(h *host, index int) (string, error) {
	text := ""
	err := h.do(func() error {
		all, err := addrsOn(index)
		for _, a := range all {
			text += a.String() + " "
		}
		return err
	})
	return text, err
}

// The bridge is promiscuous where that is wanted, also after somebody undid it, and
// nowhere else.
func TestBridgeIsPromiscuousWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	promiscuous := func(bridge string) bool {
		t.Helper()
		br, err := h.LinkByName(bridge)
		if err != nil {
			t.Fatal(err)
		}
		return br.Attrs().Promisc != 0
	}
	h.mustAdd(h.conf("1.1.0", ""), newPod(t, "plain"))
	if promiscuous("cni0") {
		t.Error("cni0 is promiscuous, which nobody wanted")
	}
	list := h.network("other", "1.1.0", `"bridge": "other0", "isDefaultGateway": false, "hairpinMode": false, "promiscMode": true`)
	for _, id := range []string{"pod1", "pod2"} {
		h.mustAdd(list, newPod(t, id))
		if !promiscuous("other0") {
			t.Errorf("other0 is not promiscuous after the ADD of %s", id)
		}
		br, err := h.LinkByName("other0")
		if err == nil {
			err = h.SetPromiscOff(br)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
