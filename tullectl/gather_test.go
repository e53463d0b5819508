package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"tulle/internal/doctor"
	"tulle/internal/flags"
	"tulle/internal/status"
	"tulle/internal/trace"
	"tulle/subnet/etcd"
)

// TestPeersOfBothFamilies: a peer that has an address of each family is at both.
func TestPeersOfBothFamilies(t *testing.T) {
	t.Parallel()
	lease := status.Lease{Node: "node2", Subnets: []string{"10.244.57.0/24", "fd00:10:244:39::/64"}, Address: "192.0.2.12", Addresses: []string{"192.0.2.12", "2001:db8::12"}}
	k := known{state: &status.Node{Lease: &lease, Peers: []status.Peer{{Lease: lease}}}}
	peers := chosen(k.peers(), nil, 16)
	if len(peers) != 1 || fmt.Sprint(peers[0].Addrs) != "[192.0.2.12 2001:db8::12]" {
		t.Errorf("peers are %v, want node2 at both addresses", peers)
	}
}

// TestLike: etcd is asked as tulled asks it, but for what is said otherwise.
func TestLike(t *testing.T) {
	t.Parallel()
	told := status.Etcd{Endpoints: []string{"https://192.0.2.1:2379"}, Prefix: "/blue", CAFile: "testdata/none.crt"}
	named := told
	named.CAFile, named.Username = "", "tulle"
	filed := named
	filed.PasswordFile = filepath.Join(t.TempDir(), "etcd-password")
	if err := os.WriteFile(filed.PasswordFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := told
	plain.CAFile = ""
	for _, tt := range []struct {
		name  string
		told  status.Etcd
		given etcd.Config
		want  etcd.Config
		asked bool
	}{
		{"the system's CA", plain, etcd.Config{Prefix: "/tulle/network"}, etcd.Config{Endpoints: told.Endpoints, Prefix: "/blue"}, true},
		{"a CA that is in tulled's container", told, etcd.Config{}, etcd.Config{Endpoints: told.Endpoints, Prefix: "/blue", CAFile: told.CAFile}, false},
		{"another CA", told, etcd.Config{CAFile: "mine.crt"}, etcd.Config{Endpoints: told.Endpoints, Prefix: "/blue", CAFile: "mine.crt"}, false},
		{"a password that only tulled knows", named, etcd.Config{}, etcd.Config{Endpoints: told.Endpoints, Prefix: "/blue", Username: "tulle"}, false},
		{"a password in a file", filed, etcd.Config{}, etcd.Config{Endpoints: told.Endpoints, Prefix: "/blue", Username: "tulle", PasswordFile: filed.PasswordFile}, true},
		{"another user", named, etcd.Config{Username: "me", Password: "secret"}, etcd.Config{Endpoints: told.Endpoints, Prefix: "/blue", Username: "me", Password: "secret"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, asked := like(tt.told, tt.given); !reflect.DeepEqual(got, tt.want) || asked != tt.asked {
				t.Errorf("%+v, %v, want %+v, %v", got, asked, tt.want, tt.asked)
			}
		})
	}
}

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
