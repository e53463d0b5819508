package subnet

import (
	"net/netip"
	"strings"
	"testing"
)

func lease(subnets ...string) Lease {
	l := Lease{Type: VXLAN}
	for _, s := range subnets {
		p := netip.MustParsePrefix(s)
		l.Subnets[FamilyOf(p.Addr())] = p
	}
	return l
}

// Keys and values to the byte, as flannel writes them.
func TestLeaseText(t *testing.T) {
	t.Parallel()
	one := lease("10.244.60.0/24")
	one.Addrs[IPv4] = netip.MustParseAddr("192.168.77.12")
	one.Data[IPv4] = `{"VNI":1,"VtepMAC":"52:07:f5:95:b8:3a"}`
	both := lease("10.244.42.0/24", "fd42:0:0:3::/64")
	both.Addrs = [2]netip.Addr{netip.MustParseAddr("192.168.77.12"), netip.MustParseAddr("fd00::12")}
	both.Data = [2]string{one.Data[IPv4], one.Data[IPv4]}
	both.Node = "node1"
	six := lease("fd42:0:0:3::/64")
	six.Addrs[IPv6] = netip.MustParseAddr("fd00::12")
	routes := lease("10.244.60.0/24")
	routes.Addrs, routes.Type = one.Addrs, HostGW
	for _, test := range []struct {
		name       string
		lease      Lease
		key, value string
	}{
		{"IPv4", one, "10.244.60.0-24", `{"PublicIP":"192.168.77.12","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"52:07:f5:95:b8:3a"}}`},
		{"both families, of a node with a name", both, "10.244.42.0-24&fd42:0:0:3::-64",
			`{"PublicIP":"192.168.77.12","PublicIPv6":"fd00::12","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"52:07:f5:95:b8:3a"},"BackendV6Data":{"VNI":1,"VtepMAC":"52:07:f5:95:b8:3a"},"Node":"node1"}`},
		{"IPv6 alone", six, "0.0.0.0-0&fd42:0:0:3::-64", `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::12","BackendType":"vxlan"}`},
		{"plain routes", routes, "10.244.60.0-24", `{"PublicIP":"192.168.77.12","PublicIPv6":null,"BackendType":"host-gw"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.lease.Key(); got != test.key {
				t.Errorf("Key() = %s, want %s", got, test.key)
			}
			if got := test.lease.Value(); got != test.value {
				t.Errorf("Value() =\n%s, want\n%s", got, test.value)
			}
			if got, err := ParseLease(test.key, []byte(test.value)); err != nil || got != test.lease {
				t.Errorf("ParseLease = %+v, %v, want %+v", got, err, test.lease)
			}
		})
	}
}

func TestParseLeaseRefuses(t *testing.T) {
	t.Parallel()
	const good = `{"PublicIP":"192.168.77.12","PublicIPv6":null,"BackendType":"vxlan"}`
	for _, test := range []struct{ name, key, value, want string }{
		{"a key that is no subnet", "hello", good, "not a subnet"},
		{"a key without a length", "10.244.1.0", good, "not a subnet"},
		{"bits behind the length", "10.244.1.7-24", good, "bits set behind"},
		{"every address", "0.0.0.0-0", good, "every address"},
		{"families the wrong way round", "fd42::-64&10.244.1.0-24", good, "not an IPv4 subnet"},
		{"an empty IPv6 part", "10.244.1.0-24&", good, "not a subnet"},
		{"IPv6 in another form", "10.244.1.0-24&fd42:0:0:3:0::-64", good, `the key of this subnet is "10.244.1.0-24&fd42:0:0:3::-64"`},
		{"IPv6 in capitals", "0.0.0.0-0&FD42:0:0:3::-64", good, `the key of this subnet is "0.0.0.0-0&fd42:0:0:3::-64"`},
		{"bad JSON", "10.244.1.0-24", `{`, "unexpected end"},
		{"null", "10.244.1.0-24", `null`, "no public address"},
		{"an array", "10.244.1.0-24", `[]`, "cannot unmarshal"},
		{"a public address of the other family", "10.244.1.0-24", `{"PublicIP":"fd00::1","BackendType":"vxlan"}`, "not an IPv4 address"},
		{"a public address with a zone", "10.244.1.0-24", `{"PublicIPv6":"fe80::1%eth0","BackendType":"vxlan"}`, "not an IPv6 address"},
		{"a key as long as a book", strings.Repeat("x", 1<<20), good, "is too long"},
		{"a value as long as a book", "10.244.1.0-24", `{"PublicIP":"192.168.77.12","BackendType":"vxlan","Node":"` + strings.Repeat("n", 1<<20) + `"}`, "bytes"},
		{"a name that is too long", "10.244.1.0-24", `{"PublicIP":"192.168.77.12","BackendType":"vxlan","Node":"` + strings.Repeat("n", 254) + `"}`, "at most 253"},
		{"a name that clears the screen", "10.244.1.0-24", `{"PublicIP":"192.168.77.12","BackendType":"vxlan","Node":"\u001b[2J"}`, "can be printed"},
		{"no backend", "10.244.1.0-24", `{"PublicIP":"192.168.77.12"}`, "no BackendType"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := ParseLease(test.key, []byte(test.value))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ParseLease(%s, %s) = %+v, %v, want an error with %q", test.key, test.value, l, err, test.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("ParseLease tells %d bytes: %.100s...", len(err.Error()), err)
			}
		})
	}
}

// What is accepted is written as it was read, but for what flannel ignores, and
// a subnet has one key.
func FuzzParseLease(f *testing.F) {
	f.Add("10.244.60.0-24", []byte(`{"PublicIP":"192.168.77.12","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"52:07:f5:95:b8:3a"}}`))
	f.Add("10.244.42.0-24&fd42:0:0:3::-64", []byte(`{"PublicIP":"1.2.3.4","PublicIPv6":"fd00::1","BackendType":"x","BackendV6Data":[1, 2],"Node":"\u0000"}`))
	f.Add("0.0.0.0-0&fd42:0:0:3::-64", []byte(`{}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		l, err := ParseLease(key, value)
		if err != nil {
			return
		}
		if l.Key() != key {
			t.Errorf("ParseLease(%s, ...) has the key %s: another key has the same subnet", key, l.Key())
		}
		if again, err := ParseLease(l.Key(), []byte(l.Value())); err != nil || again != l {
			t.Errorf("ParseLease(%s, %s) = %+v, %v, want %+v", l.Key(), l.Value(), again, err, l)
		}
	})
}
