package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// What a cleanup takes for this node's folder of reservations, and what for another's.
func TestReservesOurs(t *testing.T) {
	t.Parallel()
	b := broom{subnets: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd42:0:0:1::/64")}}
	for _, tt := range []struct {
		name  string
		files map[string]string // contents by name
		want  bool
	}{
		{"empty", nil, false},
		{"only the lock", map[string]string{"lock": ""}, false},
		{"reservations of host-local", map[string]string{"lock": "", "last_reserved_ip.0": "10.244.1.7\n", "10.244.1.7": "id\r\neth0"}, true},
		{"what the plugin notes beside them", map[string]string{"lock": "", "last_reserved_ip.0": "10.244.1.7", "announce": "10.244.1.9\nfd42:0:0:1::9\n"}, true},
		{"notes alone", map[string]string{"announce": "10.244.1.9\n"}, true},
		{"notes of other addresses", map[string]string{"last_reserved_ip.0": "10.244.1.7", "announce": "10.99.1.9\n"}, false},
		{"another node's", map[string]string{"10.99.1.7": "id\r\neth0"}, false},
		{"ours and another's", map[string]string{"10.244.1.7": "id", "10.99.1.7": "id"}, false},
		{"a stranger's file", map[string]string{"10.244.1.7": "id", "notes.txt": "10.244.1.7"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := b.reservesOurs(dir); err != nil || got != tt.want {
				t.Errorf("reservesOurs = %t, %v; want %t", got, err, tt.want)
			}
		})
	}
}
