package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/internal/golden"
)

func TestAddAnswersInTheVersionAsked(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, twoFamilies), newPod(t, "pod1")
			list := h.conf(version, `"dns": {"nameservers": ["10.96.0.10"]}`)
			var text []byte
			err := h.do(func() error {
				r, err := h.cni.AddNetworkList(t.Context(), list, p.runtime())
				if err != nil {
					return err
				}
				text, err = json.MarshalIndent(r, "", "  ")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			host, err := h.LinkByName(p.hostName())
			if err != nil {
				t.Fatal(err)
			}
			got := strings.NewReplacer(p.path, "POD", host.Attrs().HardwareAddr.String(), "MAC").Replace(string(text)) + "\n"
			golden.Check(t, "result-"+version+".json", got)
		})
	}
}

func TestPodsReachEachOtherAndTheirGateway(t *testing.T) {
	t.Parallel()
	h, one, two := newHost(t, twoFamilies), newPod(t, "pod1"), newPod(t, "pod2")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, one)
	result := h.mustAdd(list, two)
	for _, ip := range result.IPs {
		addr := netip.MustParseAddr(ip.Address.IP.String())
		gateway := netip.MustParseAddr(ip.Gateway.String())
		echo(t, one.ns, two.ns, addr)
		echo(t, two.ns, two.ns, addr)
		echo(t, one.ns, h.ns, gateway)
		echo(t, h.ns, two.ns, addr)
	}
	if len(result.IPs) != 2 {
		t.Errorf("pod has addresses %v, want one of each family", result.IPs)
	}
}

// echo sends a word over TCP from one namespace to an address in the other, and
// expects it back.
func echo(t *testing.T, from, to ns.NetNS, addr netip.Addr) {
	t.Helper()
	var l net.Listener
	err := to.Do(func(ns.NetNS) (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return // the other side tells
		}
		defer conn.Close()
		word := make([]byte, 5)
		if _, err := conn.Read(word); err == nil {
			conn.Write(word)
		}
	}()
	err = from.Do(func(ns.NetNS) error {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("tulle")); err != nil {
			return err
		}
		word := make([]byte, 5)
		if _, err := conn.Read(word); err != nil || string(word) != "tulle" {
			return fmt.Errorf("answer %q: %w", word, err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("TCP to %s: %v", addr, err)
	}
}

func TestAddWiresThePod(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	p.args = [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web-1"}, {"OTHER", "x"}}
	h.mustAdd(h.conf("1.0.0", `"bridge": "pods0"`), p)

	br, err := h.LinkByName("pods0")
	if err != nil {
		t.Fatal(err)
	}
	host, err := h.LinkByName(p.hostName())
	if err != nil {
		t.Fatal(err)
	}
	pod, err := p.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := p.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	port, err := h.LinkGetProtinfo(host)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := dump(func() ([]netlink.Route, error) { return p.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		t.Fatal(err)
	}
	var routeTexts []string
	for _, r := range routes {
		routeTexts = append(routeTexts, fmt.Sprintf("%s via %s", r.Dst, r.Gw))
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"type of pods0", br.Type(), "bridge"},
		{"mtu of pods0", br.Attrs().MTU, 1450},
		{"mac of pods0", br.Attrs().HardwareAddr.String(), "0a:58:0a:f4:3c:01"},
		{"state of pods0", br.Attrs().OperState.String(), "up"},
		{"bridge of the host's end", host.Attrs().MasterIndex, br.Attrs().Index},
		{"mtu of the host's end", host.Attrs().MTU, 1450},
		{"alias of the host's end", host.Attrs().Alias, "default/web-1"},
		{"state of the host's end", host.Attrs().OperState.String(), "up"},
		{"hairpin of the host's end", port.Hairpin, true},
		{"mtu of the pod's end", pod.Attrs().MTU, 1450},
		{"mac of the pod's end", pod.Attrs().HardwareAddr.String(), "0a:58:0a:f4:3c:02"},
		{"state of lo", lo.Attrs().Flags&net.FlagUp != 0, true},
		{"routes", strings.Join(routeTexts, ", "), "0.0.0.0/0 via 10.244.60.1, 10.244.60.0/24 via <nil>"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestBridgeKeepsMACAndMTUWhenPodsGo(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.0.0", "")
	h.mustAdd(list, p)
	if err := h.del(list, p); err != nil {
		t.Fatal(err)
	}
	br, err := h.LinkByName("cni0")
	if err != nil {
		t.Fatal(err)
	}
	if mac := br.Attrs().HardwareAddr.String(); mac != "0a:58:0a:f4:3c:01" || br.Attrs().MTU != 1450 {
		t.Errorf("cni0 without ports has mac %s and mtu %d, want 0a:58:0a:f4:3c:01 and 1450", mac, br.Attrs().MTU)
	}
}

func TestAddWithoutSubnetFileSaysWhatToDo(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, ""), newPod(t, "pod1")
	list := h.conf("1.1.0", "")
	_, err := h.add(list, p)
	wantError(t, "ADD", err, types.ErrTryAgainLater, h.subnetFile, "tulled", "tullectl status")
	wantError(t, "STATUS", h.status(list), types.ErrPluginNotAvailable, h.subnetFile, "tulled", "tullectl status")

	h.setSubnet("FLANNEL_SUBNET=none\n")
	_, err = h.add(list, p)
	wantError(t, "ADD with a broken file", err, types.ErrTryAgainLater, h.subnetFile, "FLANNEL_SUBNET", "FLANNEL_MTU")
	h.wantNothing("ADD without a subnet file")

	h.setSubnet(oneFamily)
	if err := h.status(list); err != nil {
		t.Errorf("STATUS with a subnet file: %v", err)
	}
	h.mustAdd(list, p)
}

func TestAddThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, extra string
		spoil       func(*host, *testPod) error
		code        uint
		texts       []string
	}{
		{
			name: "the pod has an interface of that name",
			spoil: func(_ *host, p *testPod) error {
				return p.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
			},
			code: types.ErrInternal, texts: []string{"eth0", "already"},
		},
		{
			name:  "a route's gateway cannot be reached",
			extra: `ipam:"routes": [{"dst": "192.168.0.0/16", "gw": "172.16.0.1"}]`,
			code:  types.ErrInternal, texts: []string{"192.168.0.0/16 via 172.16.0.1", "network is unreachable"},
		},
		{
			name:  "a route of a family that the node has no subnet of",
			extra: `ipam:"routes": [{"dst": "fd00::/8"}]`,
			code:  types.ErrInvalidNetworkConfig, texts: []string{"ipam.routes[0].dst", "IPv6"},
		},
		{
			name: "the bridge's name belongs to something else",
			spoil: func(h *host, _ *testPod) error {
				return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cni0"}, PeerName: "other"})
			},
			code: types.ErrInternal, texts: []string{"cni0 is of type veth and not a bridge"},
		},
		{
			name:  "the namespace is gone",
			spoil: func(_ *host, p *testPod) error { p.path = "/proc/self/nowhere"; return nil },
			code:  types.ErrInvalidNetNS, texts: []string{"/proc/self/nowhere"},
		},
		{
			name:  "the namespace is the host's",
			spoil: func(_ *host, p *testPod) error { p.path = "/proc/self/ns/net"; return nil },
			code:  types.ErrInvalidNetNS, texts: []string{"host"},
		},
		{
			name:  "the interface's name is a pattern",
			spoil: func(_ *host, p *testPod) error { p.ifName = "eth%d"; return nil },
			code:  types.ErrInvalidEnvironmentVariables, texts: []string{"eth%d"},
		},
		{
			name:  "an argument that must not be ignored",
			spoil: func(_ *host, p *testPod) error { p.args = [][2]string{{"FOO", "bar"}}; return nil },
			code:  types.ErrInvalidEnvironmentVariables, texts: []string{"FOO=bar"},
		},
		{
			name:  "a field that nobody knows",
			extra: `"ipMasq": true`,
			code:  types.ErrUnsupportedField, texts: []string{"ipMasq: true", "hairpinMode"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, p := newHost(t, oneFamily), newPod(t, "pod1")
			if tt.spoil != nil {
				if err := tt.spoil(h, p); err != nil {
					t.Fatal(err)
				}
			}
			before := linkNames(t, p.Handle)
			_, err := h.add(h.conf("1.1.0", tt.extra), p)
			wantError(t, "ADD", err, tt.code, tt.texts...)
			h.wantNothing("ADD that failed")
			if after := linkNames(t, p.Handle); !slices.Equal(before, after) {
				t.Errorf("the pod had the links %v and now has %v", before, after)
			}
		})
	}
}

// A runtime that cannot hear the result does not know the pod's address, and may be gone.
func TestAddThatNobodyHearsIsTakenBack(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	r, closed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	r.Close()
	for name, out := range map[string]*os.File{"a full disk": full, "a pipe that nobody reads": closed} {
		h, p := newHost(t, oneFamily), newPod(t, "pod1")
		cmd := h.verb(filepath.Join(pluginDir, "tulle"), h.conf("1.1.0", allWishes), p, "ADD")
		cmd.Stdout = out
		var exit *exec.ExitError
		if err := h.do(cmd.Run); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("ADD whose result goes to %s: %v, want status 1", name, err)
		}
		h.wantNothing("ADD whose result goes to " + name)
	}
}

func linkNames(t testing.TB, h *netlink.Handle) []string {
	t.Helper()
	links, err := dump(h.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names
}

func TestAddTwiceIsRefusedAndHarmsNothing(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", "")
	h.mustAdd(list, p)
	_, err := h.add(list, p)
	wantError(t, "second ADD", err, types.ErrInternal, "eth0", "already")
	if err := h.check(list, p); err != nil {
		t.Errorf("CHECK after the refused ADD: %v", err)
	}
}

func TestAddReplacesWhatADeadAttemptLeft(t *testing.T) {
	t.Parallel()
	h, list := newHost(t, twoFamilies), (*host).conf
	first, second := newPod(t, "pod1"), newPod(t, "pod1")
	h.mustAdd(list(h, "1.1.0", ""), first)
	h.mustAdd(list(h, "1.1.0", ""), second)
	if got := h.reserved("tulle"); len(got) != 2 {
		t.Errorf("reserved are %v, want one address of each family", got)
	}
	if got := h.ports(); len(got) != 1 {
		t.Errorf("ports are %v, want one", got)
	}
	if _, err := first.LinkByName("eth0"); err == nil {
		t.Error("the first namespace still has its interface")
	}
	if err := h.check(list(h, "1.1.0", ""), second); err != nil {
		t.Errorf("CHECK: %v", err)
	}
}

func TestAddManyAtOnce(t *testing.T) {
	t.Parallel()
	const pods = 64
	h := newHost(t, twoFamilies)
	list := h.conf("1.1.0", "")
	var group sync.WaitGroup
	for i := range pods {
		p := newPod(t, fmt.Sprintf("pod%d", i))
		group.Go(func() {
			if _, err := h.add(list, p); err != nil {
				t.Errorf("ADD of %s: %v", p.id, err)
			}
		})
	}
	group.Wait()
	if got := h.reserved("tulle"); len(got) != 2*pods {
		t.Errorf("%d addresses are reserved (%v), want %d", len(got), got, 2*pods)
	}
	if got := h.ports(); len(got) != pods {
		t.Errorf("the bridge has %d ports, want %d", len(got), pods)
	}
}

func TestExhaustionIsToldWithCounts(t *testing.T) {
	t.Parallel()
	h := newHost(t, strings.ReplaceAll(oneFamily, "60.1/24", "60.1/29"))
	list := h.conf("1.1.0", "")
	for i := range 5 {
		if err := h.status(list); err != nil {
			t.Errorf("STATUS with %d of 5 addresses reserved: %v", i, err)
		}
		h.mustAdd(list, newPod(t, fmt.Sprintf("pod%d", i)))
	}
	last := newPod(t, "last")
	_, err := h.add(list, last)
	wantError(t, "ADD", err, types.ErrTryAgainLater, "10.244.60.0/29", "5 of 5", h.dataDir)
	wantError(t, "STATUS", h.status(list), types.ErrPluginNotAvailable, "10.244.60.0/29", "5 of 5")
	if got := h.ports(); len(got) != 5 {
		t.Errorf("ports are %v, want five", got)
	}
	if err := h.del(list, newPod(t, "pod2")); err != nil {
		t.Fatal(err)
	}
	if r := h.mustAdd(list, last); r.IPs[0].Address.String() != "10.244.60.4/29" {
		t.Errorf("got %s, want the address that pod2 gave back", r.IPs[0].Address.String())
	}
}

// The reference plugin gives up here: "already has an IP address different from".
func TestSubnetOfTheNodeChanged(t *testing.T) {
	t.Parallel()
	h, old, young, next := newHost(t, oneFamily), newPod(t, "pod1"), newPod(t, "pod2"), newPod(t, "pod3")
	list := h.conf("1.1.0", "")
	addrsOfBridge := func() string {
		br, err := h.LinkByName("cni0")
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(br, netlink.FAMILY_V4) })
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, a := range addrs {
			texts = append(texts, a.IPNet.String())
		}
		return strings.Join(texts, " ")
	}
	h.mustAdd(list, old)
	br, err := h.LinkByName("cni0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(br, addr("169.254.20.10/32")); err != nil { // an operator's
		t.Fatal(err)
	}
	h.setSubnet(strings.ReplaceAll(oneFamily, "10.244.60.1", "10.244.61.1"))
	r := h.mustAdd(list, young)
	if got := r.IPs[0].Address.String(); got != "10.244.61.2/24" {
		t.Errorf("the new pod got %s, want 10.244.61.2/24", got)
	}
	if got, want := addrsOfBridge(), "10.244.60.1/24 169.254.20.10/32 10.244.61.1/24"; got != want {
		t.Errorf("bridge has %s while a pod lives in the old subnet, want %s", got, want)
	}
	echo(t, old.ns, h.ns, addrOf("10.244.60.1"))
	echo(t, h.ns, old.ns, addrOf("10.244.60.2"))
	echo(t, young.ns, h.ns, addrOf("10.244.61.1"))
	for _, p := range []*testPod{old, young} {
		if err := h.check(list, p); err != nil {
			t.Errorf("CHECK of %s: %v", p.id, err)
		}
	}
	if err := h.del(list, old); err != nil {
		t.Fatal(err)
	}
	h.mustAdd(list, next)
	if got, want := addrsOfBridge(), "169.254.20.10/32 10.244.61.1/24"; got != want {
		t.Errorf("bridge has %s after the last pod of the old subnet went, want %s", got, want)
	}
	echo(t, young.ns, next.ns, addrOf("10.244.61.3"))
}

// The subnet changes while a pod is being attached that read the old one and has no address
// yet: it gets its gateway all the same.
func TestSubnetChangesDuringAnAdd(t *testing.T) {
	t.Parallel()
	h, old, young := newHost(t, oneFamily), newPod(t, "old"), newPod(t, "young")
	list := h.conf("1.1.0", "")
	if err := os.MkdirAll(h.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(h.dir(), lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // nobody gets an address
		t.Fatal(err)
	}
	has := func(ip string) bool {
		br, err := h.LinkByName("cni0")
		if err != nil {
			return false
		}
		addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(br, netlink.FAMILY_V4) })
		return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == ip })
	}
	var group sync.WaitGroup
	start := func(p *testPod) {
		group.Go(func() {
			if _, err := h.add(list, p); err != nil {
				t.Errorf("ADD of %s: %v", p.id, err)
			}
		})
	}
	within := func(most time.Duration, what func() bool) bool {
		for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if what() {
				return true
			}
		}
		return false
	}
	start(old)
	if !within(30*time.Second, func() bool { return has("10.244.60.1/24") }) {
		t.Fatal("no bridge for the first pod")
	}
	h.setSubnet(strings.ReplaceAll(oneFamily, "10.244.60.1", "10.244.61.1"))
	start(young)
	if !within(30*time.Second, func() bool { return has("10.244.61.1/24") }) {
		t.Fatal("the bridge gets no address of the new subnet")
	}
	// Whoever takes the old address away without the lock does so now.
	within(300*time.Millisecond, func() bool { return !has("10.244.60.1/24") })
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	echo(t, old.ns, h.ns, addrOf("10.244.60.1"))
	echo(t, young.ns, h.ns, addrOf("10.244.61.1"))
	for _, p := range []*testPod{old, young} {
		if err := h.check(list, p); err != nil {
			t.Errorf("CHECK of %s: %v", p.id, err)
		}
	}
}

func TestWithoutDefaultGatewayTheClusterIsReached(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	r := h.mustAdd(h.conf("1.1.0", `"isDefaultGateway": false, "hairpinMode": false, "mtu": 1400`), p)
	var got bytes.Buffer
	for _, rt := range r.Routes {
		fmt.Fprintf(&got, "%s ", &rt.Dst)
		in, err := dump(func() ([]netlink.Route, error) {
			return p.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: &rt.Dst}, netlink.RT_FILTER_DST)
		})
		if err != nil || len(in) != 1 {
			t.Fatalf("routes to %s in the pod: %v (%v), want one", &rt.Dst, in, err)
		}
		fmt.Fprintf(&got, "via %s\n", in[0].Gw)
	}
	if want := "10.244.0.0/16 via 10.244.60.1\nfd42::/48 via fd42:0:0:3::1\n"; got.String() != want {
		t.Errorf("routes = %q, want %q", got.String(), want)
	}
	host, err := h.LinkByName(p.hostName())
	if err != nil {
		t.Fatal(err)
	}
	port, err := h.LinkGetProtinfo(host)
	if err != nil {
		t.Fatal(err)
	}
	if port.Hairpin || host.Attrs().MTU != 1400 {
		t.Errorf("hairpin %t and mtu %d, want false and 1400", port.Hairpin, host.Attrs().MTU)
	}
}

func TestIPv6AddressIsUsableAtOnceWhereIPv6WasOff(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	err := p.ns.Do(func(ns.NetNS) error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.mustAdd(h.conf("1.1.0", ""), p)
	link, err := p.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return p.AddrList(link, netlink.FAMILY_V6) })
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%s is still tentative when ADD returns", a.IPNet)
		}
	}
	if len(addrs) == 0 {
		t.Error("the pod has no IPv6 address")
	}
}

func TestNodeWithIPv6Alone(t *testing.T) {
	t.Parallel()
	h, one, two := newHost(t, "FLANNEL_IPV6_NETWORK=fd42::/48\nFLANNEL_IPV6_SUBNET=fd42:0:0:3::1/64\nFLANNEL_MTU=1450\n"), newPod(t, "pod1"), newPod(t, "pod2")
	list := h.conf("1.1.0", "")
	r := h.mustAdd(list, one)
	h.mustAdd(list, two)
	if len(r.IPs) != 1 || r.IPs[0].Address.String() != "fd42:0:0:3::2/64" || r.IPs[0].Gateway.String() != "fd42:0:0:3::1" {
		t.Errorf("addresses %v, want the first of the IPv6 subnet alone", r.IPs)
	}
	if len(r.Routes) != 1 || r.Routes[0].Dst.String() != "::/0" {
		t.Errorf("routes %v, want ::/0 alone", r.Routes)
	}
	echo(t, two.ns, one.ns, addrOf("fd42:0:0:3::2"))
	echo(t, one.ns, h.ns, addrOf("fd42:0:0:3::1"))
	for _, p := range []*testPod{one, two} {
		if err := h.check(list, p); err != nil {
			t.Error(err)
		}
		if err := h.del(list, p); err != nil {
			t.Error(err)
		}
	}
	h.wantNothing("DEL")
}

func TestMTUThatIPv6DoesNotTake(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	list := h.conf("1.1.0", `"mtu": 1279`)
	_, err := h.add(list, p)
	wantError(t, "ADD", err, types.ErrInvalidNetworkConfig, "mtu: 1279", "IPv6", "1280", h.subnetFile)
	wantError(t, "STATUS", h.status(list), types.ErrInvalidNetworkConfig, "mtu: 1279")
	h.setSubnet(strings.ReplaceAll(twoFamilies, "MTU=1450", "MTU=1200"))
	_, err = h.add(h.conf("1.1.0", ""), p)
	wantError(t, "ADD with that of the subnet file", err, types.ErrInvalidNetworkConfig, "1200", "1280", h.subnetFile)
	h.mustAdd(h.conf("1.1.0", `"mtu": 1280`), p)
}

// Addresses that a runtime asks for may be alike in all but their middle. Two interfaces of
// one bridge must not have one MAC.
func TestMACsOfOneIPv6SubnetDiffer(t *testing.T) {
	t.Parallel()
	h := newHost(t, "FLANNEL_IPV6_NETWORK=fd42::/48\nFLANNEL_IPV6_SUBNET=fd42:0:0:3::1/64\nFLANNEL_MTU=1450\n")
	list := h.conf("1.1.0", "")
	macs := map[string]string{macOf(prefix("fd42:0:0:3::1/64")).String(): "the bridge"}
	var pods []*testPod
	for n, ip := range []string{"fd42:0:0:3::2", "fd42::3:0:1:0:1", "fd42::3:0:2:0:1", "fd42::3:1:0:0:2"} {
		p := newPod(t, fmt.Sprint("pod", n))
		p.args = [][2]string{{"IP", ip}}
		mac := h.mustAdd(list, p).Interfaces[2].Mac
		if other, taken := macs[mac]; taken {
			t.Errorf("%s has the MAC %s of %s", ip, mac, other)
		}
		macs[mac] = ip
		pods = append(pods, p)
		echo(t, p.ns, h.ns, addrOf("fd42:0:0:3::1"))
	}
	echo(t, pods[1].ns, pods[2].ns, addrOf("fd42::3:0:2:0:1"))
	for _, tt := range []struct{ prefix, mac string }{
		{"10.244.60.2/24", "0a:58:0a:f4:3c:02"}, {"fd42:0:0:3::2/64", "0a:58:00:00:00:02"}, {"fd42::3:7:0:0:2/80", "0a:58:00:00:00:02"},
	} {
		if got := macOf(prefix(tt.prefix)).String(); got != tt.mac {
			t.Errorf("macOf(%s) = %s, want %s, as ever: neighbours know it", tt.prefix, got, tt.mac)
		}
	}
}

// Of a list of versions the runtime takes the highest that both know.
func TestListOfVersions(t *testing.T) {
	t.Parallel()
	for want, versions := range map[string]string{"1.1.0": `["0.4.0", "1.1.0", "1.0.0"]`, "0.4.0": `["0.3.1", "0.4.0"]`} {
		h, p := newHost(t, oneFamily), newPod(t, "pod1")
		list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersions": %s, "name": "tulle", "plugins": [
			{"type": "tulle", "subnetFile": %q, "ipam": {"dataDir": %q}}]}`, versions, h.subnetFile, h.dataDir))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.do(func() error {
			r, err := h.cni.AddNetworkList(t.Context(), list, p.runtime())
			if err == nil && r.Version() != want {
				t.Errorf("of %s: the result is of version %s, want %s", versions, r.Version(), want)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		if err := h.del(list, p); err != nil {
			t.Error(err)
		}
	}
}

func TestResultOfThePluginsBeforeUsIsKept(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.0.0", `"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "x"}],
		"ips": [{"address": "192.0.2.5/24", "interface": 0}]}`)
	r := h.mustAdd(list, p)
	if len(r.Interfaces) != 4 || r.Interfaces[0].Name != "net1" || r.Interfaces[3].Name != "eth0" {
		t.Errorf("interfaces are %v, want net1 and then ours", r.Interfaces)
	}
	if len(r.IPs) != 2 || *r.IPs[0].Interface != 0 || *r.IPs[1].Interface != 3 {
		t.Errorf("addresses are %v, want 192.0.2.5 on interface 0 and ours on 3", r.IPs)
	}
}

func TestVersionTellsWhatIsSupported(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	info, err := h.cni.GetVersionInfo(t.Context(), "tulle")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(info.SupportedVersions(), " "), "0.3.1 0.4.0 1.0.0 1.1.0"; got != want {
		t.Errorf("VERSION = %s, want %s", got, want)
	}
}

func BenchmarkAddDel(b *testing.B) {
	h := newHost(b, oneFamily)
	list := h.conf("1.1.0", "")
	pods := make([]*testPod, 0, b.N)
	for i := range b.N {
		pods = append(pods, newPod(b, fmt.Sprintf("pod%d", i)))
	}
	var added, deleted time.Duration
	b.ResetTimer()
	for _, p := range pods {
		start := time.Now()
		h.mustAdd(list, p)
		added += time.Since(start)
		start = time.Now()
		if err := h.del(list, p); err != nil {
			b.Fatal(err)
		}
		deleted += time.Since(start)
	}
	b.ReportMetric(float64(added.Microseconds())/float64(b.N)/1000, "ms/ADD")
	b.ReportMetric(float64(deleted.Microseconds())/float64(b.N)/1000, "ms/DEL")
}
