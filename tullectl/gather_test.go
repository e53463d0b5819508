package main

import (
	"net/netip"
	"testing"

	"tulle/internal/doctor"
	"tulle/internal/flags"
	"tulle/internal/trace"
)

// TestBridgeOf: doctor looks at the bridge of the network that it is asked about,
// and at none that may be another network's.
func TestBridgeOf(t *testing.T) {
	t.Parallel()
	bridge := func(name, addr string) trace.Link {
		return trace.Link{Name: name, Kind: "bridge", Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}
	}
	const blue = "/run/tulle/blue/subnet.env"
	confs := []doctor.Conf{{Plugins: []string{"tulle"}}, {Plugins: []string{"tulle"}, Bridge: "cni-blue", SubnetFile: blue}}
	for _, tt := range []struct {
		name, own, file string
		links           []trace.Link
		confs           []doctor.Conf
		want            string
	}{
		{"the default", "10.244.1.0/24", flags.SubnetFile, nil, nil, "cni0"},
		{"by its address", "10.244.1.0/24", flags.SubnetFile, []trace.Link{bridge("docker0", "172.17.0.1/16"), bridge("pods", "10.244.1.1/24")}, nil, "pods"},
		{"the default one has lost its address", "10.244.1.0/24", flags.SubnetFile, []trace.Link{bridge("cni-blue", "10.99.1.1/24"), {Name: "cni0", Kind: "bridge"}}, confs, "cni0"},
		{"by the configuration of the plugin", "10.99.1.0/24", blue, []trace.Link{bridge("cni0", "10.244.1.1/24")}, confs, "cni-blue"},
		{"another network, of which nobody knows", "10.99.1.0/24", blue, []trace.Link{bridge("cni0", "10.244.1.1/24")}, confs[:1], ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := doctor.Facts{Subnets: [2]netip.Prefix{netip.MustParsePrefix(tt.own)}, Links: tt.links, CNI: doctor.CNI{Confs: tt.confs}}
			if got := bridgeOf(f, tt.file); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
