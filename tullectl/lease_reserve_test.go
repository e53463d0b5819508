package main

import (
	"errors"
	"net/netip"
	"testing"

	"tulle/subnet"
)

func TestReservationsThatCantBe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, subnet, node, address string }{
		{"bits behind the length", "10.244.60.7/24", "web7", "192.0.2.7"},
		{"no node", "10.244.60.0/24", "", "192.0.2.7"},
		{"a node of two lines", "10.244.60.0/24", "web\n7", "192.0.2.7"},
		{"no address", "10.244.60.0/24", "web7", ""},
		{"the address of every host", "10.244.60.0/24", "web7", "127.0.0.1"},
		{"an address of the link alone", "fd42:0:0:7::/64", "web7", "fe80::1%eth0"},
	} {
		if l, err := newReservation(test.subnet, test.node, test.address); !errors.As(err, &usageError{}) {
			t.Errorf("%s: newReservation = %v, %v, want a mistake in the call", test.name, l, err)
		}
	}
	taken := subnet.Lease{Node: "web7", Addrs: [2]netip.Addr{subnet.IPv4: netip.MustParseAddr("192.0.2.7")}}
	for _, test := range []struct {
		node, address string
		ok            bool
	}{
		{"", "", true},
		{"web7", "", true},
		{"web7", "192.0.2.7", true},
		{"web8", "", false},
		{"web7", "192.0.2.8", false},
		{"", "nonsense", false},
	} {
		if err := isOf(taken, test.node, test.address); (err == nil) != test.ok {
			t.Errorf("isOf(%v, %q, %q) = %v, want an error: %t", taken, test.node, test.address, err, !test.ok)
		}
	}
	if _, err := newReservation("10.244.60.0/24", "web7", "192.0.2.7"); err != nil {
		t.Errorf("newReservation = %v, want none", err)
	}
}
