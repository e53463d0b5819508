package main

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestParseWish(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       wish
	}{
		{"nothing", `{"name": "t"}`, wish{}},
		{"declared and not given", `{"name": "t", "capabilities": {"portMappings": true, "bandwidth": true, "ips": true, "mac": true}}`, wish{}},
		{"everything", `{"name": "t", "runtimeConfig": {
			"portMappings": [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "::"},
				{"hostPort": 1, "containerPort": 65535, "protocol": "sctp", "hostIP": "::ffff:192.0.2.1"}, {"hostPort": 2, "containerPort": 2, "protocol": "", "hostIP": ""}],
			"bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 0, "egressBurst": 0},
			"ips": ["10.244.60.9/24", "fd42::9"], "mac": "0A-00-00-00-00-01"}}`,
			wish{
				Static: [2]netip.Addr{addrOf("10.244.60.9"), addrOf("fd42::9")}, MAC: "0a:00:00:00:00:01",
				Ports: []portMapping{
					{HostPort: 8080, Protocol: 6, Port: 80},
					{HostIP: netip.IPv6Unspecified(), HostPort: 53, Protocol: 17, Port: 5353},
					{HostIP: addrOf("192.0.2.1"), HostPort: 1, Protocol: 132, Port: 65535},
					{HostPort: 2, Protocol: 6, Port: 2},
				},
				Bandwidth: bandwidth{IngressRate: 1000, IngressBurst: 2000},
			}},
		{"as containerd writes it", `{"name": "t", "runtimeConfig": {
			"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
			"bandwidth": {"IngressRate": 1000, "IngressBurst": 2000, "EgressRate": 3000, "EgressBurst": 4000}}}`,
			wish{Ports: []portMapping{{HostPort: 8080, Protocol: 6, Port: 80}}, Bandwidth: bandwidth{1000, 2000, 3000, 4000}}},
	}
	for _, tt := range tests {
		c, err := parseNetconf([]byte(tt.text))
		if err != nil || !reflect.DeepEqual(c.Wish, tt.want) {
			t.Errorf("%s: wish %+v (%v), want %+v", tt.name, c.Wish, err, tt.want)
		}
	}
}

func TestParseWishTellsAllFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		code       uint
		want       []string
	}{
		{"InfiniBand", `{"name": "t", "capabilities": {"infinibandGUID": true}, "runtimeConfig": {"infinibandGUID": "c2:11:22:33:44:55:66:77"},
			"args": {"cni": {"infinibandGUID": "x"}}}`, types.ErrInvalidNetworkConfig,
			[]string{"capabilities.infinibandGUID: true: a bridge carries Ethernet", "runtimeConfig.infinibandGUID:", "args.cni.infinibandGUID:"}},
		{"a capability that nobody knows", `{"name": "t", "capabilities": {"aliases": true}}`, types.ErrUnsupportedField,
			[]string{"capabilities.aliases: true is not supported", "bandwidth", "ips", "mac", "portMappings"}},
		{"port mappings", `{"name": "t", "runtimeConfig": {"portMappings": [{"hostPort": 0, "containerPort": 70000}, 5,
			{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}, {"hostPort": 1, "containerPort": 1, "hostIP": "eth0"}, {"hostPort": 1, "containerPort": 1, "port": 1}]}}`,
			types.ErrInvalidNetworkConfig, []string{
				"runtimeConfig.portMappings[0].hostPort: 0 is out of range: 1 to 65535", "portMappings[0].containerPort: 70000", "portMappings[1]: 5 is not a JSON object",
				`portMappings[2].protocol: "icmp" is not one of tcp, udp, sctp`, `portMappings[3].hostIP: "eth0"`, "portMappings[4].port: 1 is not supported",
			}},
		{"port mappings that contradict each other", `{"name": "t", "runtimeConfig": {"portMappings": [
			{"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 80, "hostIP": "0.0.0.0"},
			{"hostPort": 80, "containerPort": 81, "hostIP": "0.0.0.0"}, {"hostPort": 80, "containerPort": 82, "hostIP": "192.0.2.1"}, {"hostPort": 80, "containerPort": 83, "protocol": "udp"},
			{"hostPort": 80, "containerPort": 84, "hostIP": "192.0.2.1"}]}}`, types.ErrInvalidNetworkConfig, []string{
			"runtimeConfig.portMappings[2].containerPort: 81 contradicts portMappings[0], which leads tcp * port 80 to pod port 80; runtimeConfig.portMappings[5].containerPort: 84 contradicts portMappings[3]"}},
		{"a port that is no number", `{"name": "t", "runtimeConfig": {"portMappings": [{"hostPort": "x", "containerPort": 80}]}}`, types.ErrInvalidNetworkConfig,
			[]string{`network configuration: runtimeConfig.portMappings[0].hostPort: "x" is not a whole number`}},
		{"bandwidth that carries no packet", `{"name": "t", "runtimeConfig": {"bandwidth": {"ingressRate": 999, "ingressBurst": 1, "egressRate": 1000000000000001, "egressBurst": 1}}}`, types.ErrInvalidNetworkConfig,
			[]string{"bandwidth.ingressRate: 999 is out of range: 1000 to 1000000000000000", "bandwidth.egressRate: 1000000000000001 is out of range"}},
		{"bandwidth", `{"name": "t", "runtimeConfig": {"bandwidth": {"ingressRate": 5, "egressBurst": 5, "egressRate": -1}}}`, types.ErrInvalidNetworkConfig,
			[]string{"bandwidth.ingressBurst: 0 contradicts ingressRate: 5", "bandwidth.egressRate: -1 is not a whole number", "bandwidth.egressBurst: 5 contradicts egressRate: 0"}},
		{"contradictions", `{"name": "t", "runtimeConfig": {"ips": ["10.0.0.1", "x", "10.0.0.2"], "mac": "0a:00:00:00:00:01"}, "args": {"cni": {"ips": ["10.0.0.3"], "mac": "0a:00:00:00:00:02"}}}`,
			types.ErrInvalidNetworkConfig, []string{
				`runtimeConfig.ips[1]: "x" is not an address`, "runtimeConfig.ips[2]: 10.0.0.2 contradicts 10.0.0.1", "args.cni.ips[0]: 10.0.0.3 contradicts 10.0.0.1",
				"args.cni.mac: 0a:00:00:00:00:02 contradicts 0a:00:00:00:00:01",
			}},
		{"range", `{"name": "t", "ipam": {"rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.1"}}`, types.ErrInvalidNetworkConfig, []string{"ipam.rangeEnd: 10.0.0.1 lies before rangeStart: 10.0.0.9"}},
		{"range of two families", `{"name": "t", "ipam": {"rangeStart": "10.0.0.9", "rangeEnd": "fd00::1"}}`, types.ErrInvalidNetworkConfig, []string{"ipam.rangeEnd: fd00::1 is of another family"}},
		{"promiscuous and hairpin", `{"name": "t", "promiscMode": true}`, types.ErrInvalidNetworkConfig, []string{"promiscMode: true contradicts hairpinMode: true"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseNetconf([]byte(tt.text))
			wantError(t, "parseNetconf", err, tt.code, tt.want...)
		})
	}
}

// Each is a configuration of flannel's plugin, with its own name as type.
func TestFlannelsNetconfIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       func(*netconf)
	}{
		{"of its manifest", `{"name": "cbr0", "cniVersion": "0.3.1", "type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}}`,
			func(c *netconf) {}},
		{"its defaults", `{"name": "cbr0", "cniVersion": "0.3.1", "type": "flannel", "delegate": {}}`,
			func(c *netconf) { c.Hairpin, c.DefaultGateway = false, false }},
		{"of its README", `{"name": "cbr0", "cniVersion": "0.3.1", "type": "flannel", "subnetFile": "/run/flannel/subnet.env", "dataDir": "/var/lib/cni/flannel2",
			"delegate": {"type": "bridge", "bridge": "mynet0", "mtu": 1400, "isGateway": true, "forceAddress": true, "ipMasq": false, "vlan": 0, "hairpinMode": true},
			"ipam": {"type": "host-local", "dataDir": "/data", "routes": [{"dst": "10.96.0.0/12"}]}}`,
			func(c *netconf) {
				c.SubnetFile, c.FlannelDir, c.Bridge, c.MTU, c.DataDir = "/run/flannel/subnet.env", "/var/lib/cni/flannel2", "mynet0", 1400, "/data"
				c.DefaultGateway, c.Routes = false, []route{{Dst: prefix("10.96.0.0/12")}}
			}},
		{"both forms, of one mind", `{"name": "cbr0", "cniVersion": "0.3.1", "type": "tulle", "mtu": 1400, "bridge": "br0", "delegate": {"mtu": 1400, "promiscMode": true, "isDefaultGateway": true}}`,
			func(c *netconf) { c.MTU, c.Bridge, c.Hairpin, c.Promisc = 1400, "br0", false, true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := netconf{
				CNIVersion: "0.3.1", Name: "cbr0", SubnetFile: "/run/tulle/subnet.env", Bridge: "cni0", Hairpin: true, DefaultGateway: true,
				DataDir: "/var/lib/cni/networks", FlannelDir: "/var/lib/cni/flannel",
			}
			tt.want(&want)
			got, err := parseNetconf([]byte(tt.text))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("parseNetconf = %+v (%v)\nwant %+v", got, err, want)
			}
		})
	}
}

func TestDelegateThatCannotBe(t *testing.T) {
	t.Parallel()
	_, err := parseNetconf([]byte(`{"name": "t", "mtu": 1400, "delegate": {"type": "ptp", "mtu": 1500, "name": "x", "ipam": {}, "ipMasq": true, "isGateway": false, "vlan": 5, "macspoofchk": true}}`))
	wantError(t, "parseNetconf", err, types.ErrInvalidNetworkConfig, `delegate.type: "ptp"`, "delegate.mtu: 1500 contradicts mtu: 1400",
		"delegate.name: must not be here", "delegate.ipam: must not be here", "delegate.ipMasq: true", "delegate.isGateway: false", "delegate.vlan: 5", "delegate.macspoofchk: true")
	_, err = parseNetconf([]byte(`{"name": "t", "delegate": {"stranger": 1}}`))
	wantError(t, "parseNetconf", err, types.ErrUnsupportedField, "delegate.stranger: 1 is not supported")
}
