package main

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"tulle/subnet"
)

func addrOf(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestParseNetconf(t *testing.T) {
	t.Parallel()
	minimal := netconf{
		Name: "tulle", SubnetFile: "/run/tulle/subnet.env", Bridge: "cni0", Hairpin: true,
		DefaultGateway: true, DataDir: "/var/lib/cni/networks", FlannelDir: "/var/lib/cni/flannel",
	}
	with := func(f func(*netconf)) netconf {
		c := minimal
		f(&c)
		return c
	}
	tests := []struct {
		name, text string
		want       netconf
	}{
		{"only a name", `{"name": "tulle"}`, minimal},
		{"null is as good as absent", `{"name": "tulle", "mtu": null, "ipam": null, "hairpinMode": null, "prevResult": null}`, minimal},
		{"what a runtime may put in", `{"name": "tulle", "type": "tulle", "cniVersions": ["1.0.0"], "disableCheck": true, "disableGC": true,
			"capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": []},
			"args": {"cni": {"labels": []}, "other": 1}, "cni.dev/later": {}}`, minimal},
		{"everything", `{"cniVersion": "1.0.0", "name": "tulle", "subnetFile": "/etc/subnet", "bridge": "pods", "mtu": 1400,
			"hairpinMode": false, "isDefaultGateway": false, "dns": {"nameservers": ["10.96.0.10"], "domain": "d", "search": ["s"], "options": ["o"]},
			"ipam": {"type": "host-local", "dataDir": "/var/lib/x/", "routes": [{"dst": "10.96.0.0/12"},
				{"dst": "fd00::/8", "gw": "fd42::1", "mtu": 1300, "advmss": 1240, "priority": 5, "table": 100, "scope": 253}]},
			"prevResult": {"ips": []}}`,
			netconf{
				CNIVersion: "1.0.0", Name: "tulle", SubnetFile: "/etc/subnet", Bridge: "pods", MTU: 1400, DataDir: "/var/lib/x", FlannelDir: "/var/lib/cni/flannel",
				DNS: types.DNS{Nameservers: []string{"10.96.0.10"}, Domain: "d", Search: []string{"s"}, Options: []string{"o"}},
				Routes: []route{
					{Dst: netip.MustParsePrefix("10.96.0.0/12")},
					{Dst: netip.MustParsePrefix("fd00::/8"), Via: addrOf("fd42::1"), MTU: 1300, AdvMSS: 1240, Priority: 5, Table: 100, Scope: 253},
				},
				PrevResult: []byte(`{"ips": []}`),
			}},
		{"a list of attachments", `{"name": "tulle", "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]}`,
			with(func(c *netconf) { c.Valid = []types.GCAttachment{{ContainerID: "c", IfName: "eth0"}} })},
		{"an empty list of attachments, as libcni writes it", `{"name": "tulle", "cni.dev/valid-attachments": null, "cni.dev/attachments": null}`,
			with(func(c *netconf) { c.Valid = []types.GCAttachment{} })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseNetconf([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("parseNetconf = %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParseNetconfTellsAllFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		code       uint
		want       []string
	}{
		{"no object", `[]`, types.ErrInvalidNetworkConfig, []string{"network configuration: [] is not a JSON object", "name:"}},
		{"no name", `{}`, types.ErrInvalidNetworkConfig, []string{`name: "": missing network name`}},
		{"a name that leads out of the directory", `{"name": "../x"}`, types.ErrInvalidNetworkConfig, []string{`name: "../x"`}},
		{"unknown fields at every level", `{"name": "t", "subnetfile": "/x", "ipam": {"subnet": "10.0.0.0/8", "routes": [{"dst": "10.0.0.0/8", "via": 1}]}, "dns": {"server": 1}}`,
			types.ErrUnsupportedField, []string{`subnetfile: "/x" is not supported`, "subnetFile", `ipam.subnet: "10.0.0.0/8"`, "dataDir, rangeEnd, rangeStart, routes", "ipam.routes[0].via: 1", "dns.server: 1"}},
		{"a wrong type in each field", `{"name": "t", "mtu": "big", "hairpinMode": 1, "isDefaultGateway": "yes", "bridge": 5, "subnetFile": false,
			"ipam": {"dataDir": {}, "routes": {}}, "dns": [], "capabilities": 3, "runtimeConfig": "x", "args": [1], "cni.dev/valid-attachments": "all"}`,
			types.ErrInvalidNetworkConfig, []string{
				`mtu: "big" is not a whole number`, "hairpinMode: 1 is not true or false", `isDefaultGateway: "yes"`, "bridge: 5 is not a string",
				"subnetFile: false is not a string", "ipam.dataDir: {} is not a string", "ipam.routes: {} is not a list of objects", "dns: [] is not",
				"capabilities: 3", `runtimeConfig: "x"`, "args: [1]", `cni.dev/valid-attachments: "all"`,
			}},
		{"values out of range", `{"name": "t", "mtu": 100, "bridge": "a-name-that-is-too-long", "subnetFile": "rel", "ipam": {"dataDir": "", "type": "dhcp"}}`,
			types.ErrInvalidNetworkConfig, []string{"mtu: 100 is out of range", "bridge:", "too long", `subnetFile: "rel" is not an absolute path`, `ipam.dataDir: ""`, `ipam.type: "dhcp"`}},
		{"bad routes", `{"name": "t", "ipam": {"routes": [{"gw": "10.0.0.1"}, {"dst": "10.0.0.1/8"}, {"dst": "10.0.0.0/8", "gw": "fd00::1"},
			{"dst": "x"}, 7, {"dst": "::ffff:10.0.0.0/104"}, {"dst": "10.0.0.0/8", "mtu": -1}, {"dst": "fd00::/8", "gw": "fe80::1%eth0"}]}}`,
			types.ErrInvalidNetworkConfig, []string{
				"ipam.routes[0].dst: is missing", "ipam.routes[1].dst: 10.0.0.1/8 has bits set behind its prefix length; write 10.0.0.0/8",
				"ipam.routes[2].gw: fd00::1 is not an IPv4 address", `ipam.routes[3].dst: "x" is not a prefix`, "ipam.routes[4]: 7 is not a JSON object",
				"ipam.routes[5].dst", "ipam.routes[6].mtu: -1 is out of range", "ipam.routes[7].gw: fe80::1%eth0",
			}},
		{"one route twice", `{"name": "t", "ipam": {"routes": [{"dst": "10.0.0.0/8"}, {"dst": "10.0.0.0/8", "table": 100}, {"dst": "10.0.0.0/8", "priority": 5},
			{"dst": "10.0.0.0/8", "gw": "10.1.0.1", "table": 254}, {"dst": "10.0.0.0/8", "table": 100, "mtu": 1400}]}}`, types.ErrInvalidNetworkConfig,
			[]string{"network configuration: ipam.routes[3].dst: 10.0.0.0/8 is that of routes[0]; give another table or priority; ipam.routes[4].dst: 10.0.0.0/8 is that of routes[1]"}},
		{"a pattern as bridge", `{"name": "t", "bridge": "br%d"}`, types.ErrInvalidNetworkConfig, []string{`bridge: "br%d": a percent sign`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseNetconf([]byte(tt.text))
			wantError(t, "parseNetconf", err, tt.code, tt.want...)
		})
	}
}

// Whatever the text is, the parser answers, with an error of the specification's
// kind or with a netconf that can be acted on.
func FuzzParseNetconf(f *testing.F) {
	f.Add(`{"cniVersion": "1.0.0", "name": "tulle", "ipam": {"routes": [{"dst": "10.96.0.0/12", "gw": "10.0.0.1"}]}}`)
	f.Add(`{"name": "a", "mtu": 1400, "dns": {"search": ["x"]}, "cni.dev/attachments": [{}]}`)
	f.Add(`{"name": null, "ipam": [], "args": {"a": {"b": 1}}}`)
	f.Add(`null`)
	f.Add(`{"name": "a", "delegate": {"mtu": 1400, "hairpinMode": true}, "mtu": 1500, "dataDir": "/x", "ipam": {"rangeStart": "10.0.0.2", "rangeEnd": "10.0.0.9"}}`)
	f.Add(`{"name": "a", "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "udp", "hostIP": "::"}],
		"bandwidth": {"ingressRate": 1, "ingressBurst": 1}, "ips": ["10.0.0.1/24"], "mac": "0a:00:00:00:00:01"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseNetconf([]byte(text))
		if err != nil {
			var e *types.Error
			if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig && e.Code != types.ErrUnsupportedField {
				t.Errorf("parseNetconf(%q): error %v without a code", text, err)
			}
		} else if c.Name == "" {
			t.Errorf("parseNetconf(%q) has no name", text)
		}
		if !strings.HasPrefix(c.DataDir, "/") || !strings.HasPrefix(c.SubnetFile, "/") {
			t.Errorf("parseNetconf(%q): paths %q and %q, want absolute ones", text, c.DataDir, c.SubnetFile)
		}
		for _, p := range c.Wish.Ports {
			if p.HostPort == 0 || p.Port == 0 || p.Protocol == 0 {
				t.Errorf("parseNetconf(%q): port mapping %s", text, p)
			}
		}
		for _, r := range c.Routes {
			if !r.Dst.IsValid() || r.Dst != r.Dst.Masked() {
				t.Errorf("parseNetconf(%q): route to %s", text, r.Dst)
			}
		}
	})
}

func TestPodRoutes(t *testing.T) {
	t.Parallel()
	one, err := subnet.ParseFile(oneFamily)
	if err != nil {
		t.Fatal(err)
	}
	two, err := subnet.ParseFile(twoFamilies)
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix
	tests := []struct {
		name string
		file subnet.File
		conf netconf
		want string
	}{
		{"default gateway", one, netconf{DefaultGateway: true}, "0.0.0.0/0 via 10.244.60.1"},
		{"default gateway of both families", two, netconf{DefaultGateway: true}, "0.0.0.0/0 via 10.244.60.1, ::/0 via fd42:0:0:3::1"},
		{"the cluster alone", two, netconf{}, "10.244.0.0/16 via 10.244.60.1, fd42::/48 via fd42:0:0:3::1"},
		{"configured without gateway", one, netconf{Routes: []route{{Dst: p("10.96.0.0/12")}}, DefaultGateway: true},
			"10.96.0.0/12 via 10.244.60.1, 0.0.0.0/0 via 10.244.60.1"},
		{"a default route is configured", one, netconf{Routes: []route{{Dst: p("0.0.0.0/0"), Via: addrOf("10.244.60.9")}}, DefaultGateway: true},
			"0.0.0.0/0 via 10.244.60.9"},
		{"a default route of another table", one, netconf{Routes: []route{{Dst: p("0.0.0.0/0"), Table: 100}}, DefaultGateway: true},
			"0.0.0.0/0 via 10.244.60.1, 0.0.0.0/0 via 10.244.60.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			routes, err := podRoutes(tt.conf, tt.file)
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, r := range routes {
				texts = append(texts, r.String())
			}
			if got := strings.Join(texts, ", "); got != tt.want {
				t.Errorf("podRoutes = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	tests := []struct {
		subnet, start, end string
		want               uint64
	}{
		{"10.244.60.1/24", "", "", 253},
		{"10.244.60.1/29", "", "", 5},
		{"10.244.60.1/30", "", "", 1},
		{"10.244.60.1/31", "", "", 0},
		{"10.244.60.1/24", "10.244.60.10", "10.244.60.19", 10},
		{"10.244.60.1/24", "10.244.60.250", "", 5},
		{"10.244.60.15/24", "10.244.60.10", "10.244.60.19", 9},
		{"fd42::1/126", "", "", 2},
		{"fd42::1/120", "", "", 254},
		{"fd42::1/64", "", "", 1<<64 - 2},
		{"fd42::1/60", "", "", 1<<64 - 1},
	}
	for _, tt := range tests {
		p := netip.MustParsePrefix(tt.subnet)
		var f subnet.File
		f.Subnets[subnet.FamilyOf(p.Addr())] = p
		c := netconf{}
		if tt.start != "" {
			c.RangeStart = addrOf(tt.start)
		}
		if tt.end != "" {
			c.RangeEnd = addrOf(tt.end)
		}
		all, err := spans(c, f)
		if err != nil {
			t.Errorf("spans(%v): %v", tt, err)
			continue
		}
		s := all[subnet.FamilyOf(p.Addr())]
		if got := s.size(); got != tt.want {
			t.Errorf("size of %v = %d, want %d", tt, got, tt.want)
		}
		if s.size() > 300 {
			continue
		}
		// A slow count beside the fast one, and each address once before any twice.
		taken, last := map[netip.Addr]bool{}, netip.Addr{}
		for a := s.next(last, taken); a.IsValid(); a = s.next(last, taken) {
			if taken[a] || !s.contains(a) || a == p.Addr() {
				t.Fatalf("next of %v = %s, which is taken or no pod's", tt, a)
			}
			taken[a], last = true, a
		}
		if uint64(len(taken)) != tt.want {
			t.Errorf("%v has %d addresses one by one, want %d", tt, len(taken), tt.want)
		}
	}
}

func TestHostNameIsStableAndRecognised(t *testing.T) {
	t.Parallel()
	if got := (attachment{"pod1", "eth0"}).hostName(); got != p1Host || !isHostName(got) {
		t.Errorf("hostName = %s, isHostName %t; want %s and true", got, isHostName(got), p1Host)
	}
	for _, stranger := range []string{"veth1a2b3c4d", "veth", "eth0", "veth788a104c25g", "cni0"} {
		if isHostName(stranger) {
			t.Errorf("isHostName(%s) = true, want false", stranger)
		}
	}
}

func TestParseArgs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 300)
	tests := []struct{ name, args, alias, mac, fault string }{
		{"no arguments", "", "c1", "", ""},
		{"a pod of Kubernetes", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=y", "default/web", "", ""},
		{"a name alone says too little", "K8S_POD_NAME=web", "c1", "", ""},
		{"a mac", "MAC=0A:58:00:00:00:01", "c1", "0a:58:00:00:00:01", ""},
		{"a mac of many", "MAC=01:00:5e:00:00:01", "", "", "01:00:5e:00:00:01"},
		{"no mac", "MAC=x", "", "", `MAC: "x" is not the MAC`},
		{"no address", "IP=x", "", "", `IP: "x" is not an address`},
		{"two addresses of one family", "IP=10.0.0.1,10.0.0.2", "", "", "10.0.0.2 contradicts 10.0.0.1"},
		{"others may be ignored", "IgnoreUnknown=true;FOO=1", "c1", "", ""},
		{"others may not be ignored", "FOO=1", "", "", "FOO=1 is not supported"},
		{"no pair", "FOO", "", "", `"FOO" is not of the form KEY=VALUE`},
		{"longer than the kernel takes", "K8S_POD_NAMESPACE=d;K8S_POD_NAME=" + long, ("d/" + long)[:255], "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseArgs(tt.args)
			var w wish
			if err == nil {
				err = got.addTo(&w)
			}
			if tt.fault != "" {
				wantError(t, "parseArgs", err, types.ErrInvalidEnvironmentVariables, tt.fault)
			} else if err != nil || got.alias("c1") != tt.alias || w.MAC != tt.mac {
				t.Errorf("parseArgs = %+v (%v), %v; want alias %q and mac %q", got, w, err, tt.alias, tt.mac)
			}
		})
	}
}

// Whatever the arguments are, they are refused with the right code, or lead to a
// wish that the kernel can grant.
func FuzzParseArgs(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web")
	f.Add("IP=10.0.0.1,fd00::1/64;MAC=0a:58:00:00:00:01")
	f.Add(";;=;A=B=C")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseArgs(text)
		var w wish
		if err == nil {
			err = got.addTo(&w)
		}
		var e *types.Error
		if err != nil && (!errors.As(err, &e) || e.Code != types.ErrInvalidEnvironmentVariables) {
			t.Errorf("parseArgs(%q): error %v without its code", text, err)
		}
		if len(got.alias("c1")) > 255 {
			t.Errorf("parseArgs(%q): alias of %d bytes", text, len(got.alias("c1")))
		}
		for family, a := range w.Static {
			if a.IsValid() && (subnet.FamilyOf(a) != subnet.Family(family) || a.Zone() != "") {
				t.Errorf("parseArgs(%q): %s as address of family %d", text, a, family)
			}
		}
	})
}

func TestDistributedConfigurationIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../dist/10-tulle.conflist")
	if err != nil {
		t.Fatal(err)
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	first, err := libcni.InjectConf(list.Plugins[0], map[string]any{"name": list.Name, "cniVersion": list.CNIVersion})
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseNetconf(first.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if first.Network.Type != "tulle" || c.Name != "tulle" || !c.Hairpin || !c.DefaultGateway {
		t.Errorf("first plugin is %+v of type %s, want tulle with hairpin and default gateway", c, first.Network.Type)
	}
}
