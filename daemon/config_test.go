package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tulle/subnet"
)

// parse reads flags as main does.
func parse(t *testing.T, args ...string) (config, error) {
	t.Helper()
	var f flagValues
	fs := pflag.NewFlagSet("tulled", pflag.ContinueOnError)
	f.register(fs)
	if err := fs.Parse(args); err != nil {
		return config{}, err
	}
	return f.config(fs)
}

func TestConfigFaults(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want []string // all of them at once
	}{
		{"unknown flag", []string{"--etcd-endpoint=x"}, []string{"unknown flag: --etcd-endpoint"}},
		{"not a duration", []string{"--lease-ttl=1day"}, []string{"--lease-ttl"}},
		{"many at once", []string{"--lease-ttl=1s", "--etcd-prefix=x/", "--iface-regex=(", "--public-ip=127.0.0.1", "--log-level=loud", "--log-format=xml", "--status-addr=:x"},
			[]string{"--lease-ttl: 1s is too short", "--etcd-prefix: \"x/\"", "--iface-regex:", "--public-ip: \"127.0.0.1\"", "--log-level: \"loud\"", "--log-format: \"xml\"", "--status-addr: \":x\""}},
		{"an IPv4 address for IPv6", []string{"--public-ipv6=192.0.2.7"}, []string{`--public-ipv6: "192.0.2.7" is not an address of one host such as 2001:db8::10`}},
		{"an address of the link alone", []string{"--public-ipv6=fe80::1"}, []string{`--public-ipv6: "fe80::1"`}},
		{"two public addresses of one family", []string{"--public-ip=2001:db8::7", "--public-ipv6=2001:db8::8"}, []string{"--public-ipv6: 2001:db8::8 contradicts 2001:db8::7, which --public-ip gives"}},
		{"two ways to choose the device", []string{"--iface=eth0", "--iface-regex=eth"}, []string{"give only one of --iface, --iface-regex and --iface-can-reach"}},
		{"certificates that can't be read", []string{"--etcd-endpoints=https://192.0.2.1:2379", "--etcd-cafile=" + missing, "--etcd-certfile=" + missing},
			[]string{"--etcd-cafile: open " + missing, "--etcd-certfile and --etcd-keyfile must be given together"}},
		{"a CA that is none", []string{"--etcd-endpoints=https://192.0.2.1:2379", "--etcd-cafile=" + garbage}, []string{"has no certificate in PEM form"}},
		{"certificates and no TLS", []string{"--etcd-certfile=" + garbage, "--etcd-keyfile=" + garbage}, []string{"--etcd-certfile " + garbage + ", --etcd-keyfile " + garbage + ": "}},
		{"a password without a user", []string{"--etcd-password=x"}, []string{"must be given together"}},
		{"two passwords", []string{"--etcd-username=u", "--etcd-password=x", "--etcd-password-file=" + garbage}, []string{"give only one"}},
		{"a password file that can't be read", []string{"--etcd-username=u", "--etcd-password-file=" + missing}, []string{"--etcd-password-file: open " + missing}},
		{"an endpoint that is no URL", []string{"--etcd-endpoints=192.0.2.1:2379"}, []string{`--etcd-endpoints: "192.0.2.1:2379" is not a URL such as https://192.0.2.1:2379`}},
		{"a password in a URL", []string{"--etcd-endpoints=https://root:S3cret@192.0.2.1:2379,root:S3cret@192.0.2.1"}, []string{"--etcd-endpoints: a URL must not have a user name or a password"}},
		{"an endpoint without a port", []string{"--etcd-endpoints=https://192.0.2.1"}, []string{`--etcd-endpoints: "https://192.0.2.1" has no port that there can be; etcd's is 2379`}},
		{"an endpoint with a port that there can't be", []string{"--etcd-endpoints=http://192.0.2.1:99999"}, []string{`--etcd-endpoints: "http://192.0.2.1:99999" has no port that there can be`}},
		{"an endpoint without a host", []string{"--etcd-endpoints=http://"}, []string{`--etcd-endpoints: "http://" is not a URL`}},
		{"an endpoint without a path", []string{"--etcd-endpoints=unix://"}, []string{`--etcd-endpoints: "unix://" is not a URL`}},
		{"a prefix longer than the alias of a device", []string{"--etcd-prefix=/" + strings.Repeat("p", 250)}, []string{"--etcd-prefix: ", "at most 200"}},
		{"a prefix that can't be printed", []string{"--etcd-prefix=/a\nb"}, []string{"--etcd-prefix: "}},
		{"a name that is no UTF-8", []string{"--node-name=node\xff"}, []string{`--node-name: "node\xff"`}},
		{"a name of two lines", []string{"--node-name=node\n1"}, []string{`--node-name: "node\n1"`}},
		{"a name that is too long", []string{"--node-name=" + strings.Repeat("n", 254)}, []string{"--node-name: ", "at most 253"}},
		{"an address of all hosts", []string{"--public-ip=255.255.255.255"}, []string{"--public-ip: \"255.255.255.255\""}},
		{"a look at peers in 292 years", []string{"--probe-interval=2562047h"}, []string{"--probe-interval: 2562047h0m0s is too long"}},
		{"a name that says nothing", []string{"--node-name=localhost"}, []string{"--node-name: \"localhost\""}},
		{"no files", []string{"--subnet-file=", "--state-dir="}, []string{"--subnet-file: is empty", "--state-dir: is empty"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(t, test.args...)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("tulled %v: %v, want an error with %q", test.args, err, want)
				}
			}
			if strings.Contains(fmt.Sprint(err), "S3cret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	t.Setenv("TULLED_NODE_NAME", "of-the-environment")
	t.Setenv("TULLED_ETCD_ENDPOINTS", "http://192.0.2.1:2379,http://192.0.2.2:2379")
	t.Setenv("TULLED_IP_MASQ", "false")
	t.Setenv("TULLED_PUBLIC_IP", "198.51.100.7")
	t.Setenv("TULLED_PUBLIC_IPP", "a mistake")
	t.Setenv("TULLED_IFACE", "") // as an empty TULLED_PUBLIC_IP is none
	c, err := parse(t, "--node-name=of-the-command-line")
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "of-the-command-line" || len(c.Etcd.Endpoints) != 2 || c.Masq || c.PublicIP[subnet.IPv4] != netip.MustParseAddr("198.51.100.7") || len(c.Ifaces) > 0 {
		t.Errorf("config = %+v, want what the environment says, but for the flag given", c)
	}
	if len(c.unknownEnv) != 1 || c.unknownEnv[0] != "TULLED_PUBLIC_IPP" {
		t.Errorf("variables that mean nothing = %v, want TULLED_PUBLIC_IPP", c.unknownEnv)
	}
	t.Setenv("TULLED_IP_MASQ", "perhaps")
	if _, err := parse(t); err == nil || !strings.Contains(err.Error(), "TULLED_IP_MASQ") {
		t.Errorf("config with TULLED_IP_MASQ=perhaps: %v, want the variable named", err)
	}
}

func TestPublicAddress(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	nat, nat6 := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:1::7")
	for _, test := range []struct {
		name string
		args []string
		want [2]netip.Addr
	}{
		{"none", nil, [2]netip.Addr{four, six}},
		{"of IPv4", []string{"--public-ip=198.51.100.7"}, [2]netip.Addr{nat, six}},
		{"of IPv6", []string{"--public-ipv6=2001:db8:1::7"}, [2]netip.Addr{four, nat6}},
		{"of IPv6 in the flag for any", []string{"--public-ip=2001:db8:1::7"}, [2]netip.Addr{four, nat6}},
		{"of both", []string{"--public-ip=198.51.100.7", "--public-ipv6=2001:db8:1::7"}, [2]netip.Addr{nat, nat6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := parse(t, append(test.args, "--node-name=n")...)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.public([2]netip.Addr{four, six}); got != test.want {
				t.Errorf("public = %v, want %v", got, test.want)
			}
		})
	}
}
