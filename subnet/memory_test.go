package subnet

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func memory(t *testing.T) Memory {
	t.Helper()
	var leases Leases
	for i := range 20 {
		r := testRecord(i, 0)
		r.Addrs[IPv4] = r.Subnets[IPv4].Addr()
		r.ID, r.Modified = 77, int64(i+100)
		leases = leases.With(r)
	}
	self, _ := leases.Get("10.0.7.0-24")
	return Memory{
		Prefix: "/tulle/network", Self: self, Alive: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC), TTL: 24 * time.Hour,
		Network: parse(t, `{"Network": "10.0.0.0/8"}`), Leases: leases,
	}
}

func TestMemoryIsReadAsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "state.json")
	if _, err := ReadMemory(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadMemory of no file = %v, want %v", err, fs.ErrNotExist)
	}
	want := memory(t)
	want.Lost = true
	if err := want.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadMemory(path)
	if err != nil {
		t.Fatal(err)
	}
	want.Leases.Difference(got.Leases, func(r Record) { t.Errorf("%v is too many", r) }, func(r Record) { t.Errorf("%v is missing", r) })
	got.Leases = want.Leases // the same, in other memory
	if got != want {
		t.Errorf("ReadMemory = %+v, want %+v", got, want)
	}
}

// A file that is cut off anywhere, as by a full disk, is never taken for whole.
func TestMemoryCutOff(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	if err := memory(t).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.TrimSpace(text)
	for n := range len(text) {
		if _, err := parseMemory(bytes.NewReader(text[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for a whole file", n, len(text))
		}
	}
}

func TestMemoryRefuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	if err := memory(t).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, replace := range map[string][2]string{
		"another form":                   {`"version":1`, `"version":2`},
		"a lease twice":                  {`"key":"10.0.3.0-24"`, `"key":"10.0.4.0-24"`},
		"a lease that is none":           {`"key":"10.0.3.0-24"`, `"key":"garbage"`},
		"own lease not there":            {`"self":"10.0.7.0-24"`, `"self":"10.9.7.0-24"`},
		"own lease outside of a network": {`10.0.0.0/8`, `10.64.0.0/10`},
	} {
		if _, err := parseMemory(strings.NewReader(strings.Replace(string(good), replace[0], replace[1], 1))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMemoryValid(t *testing.T) {
	t.Parallel()
	m := memory(t)
	for _, test := range []struct {
		name string
		at   time.Time
		want bool
	}{
		{"just renewed", m.Alive, true},
		{"a second before the end", m.Alive.Add(m.TTL - time.Second), true},
		{"at the end", m.Alive.Add(m.TTL), false},
		{"the clock was set back", m.Alive.Add(-time.Hour), true},
	} {
		if got := m.Valid(test.at); got != test.want {
			t.Errorf("%s: Valid = %t, want %t", test.name, got, test.want)
		}
	}
	m.Self.ID = 0
	if !m.Valid(m.Alive.Add(1000 * m.TTL)) {
		t.Error("a reservation runs out")
	}
	m.Lost = true
	if m.Valid(m.Alive) {
		t.Error("a lease that is lost is good")
	}
}

func FuzzParseMemory(f *testing.F) {
	f.Add([]byte(`{"version":1,"prefix":"/p","self":"10.0.1.0-24","alive":"2026-11-22T20:00:00Z","ttl":"24h","network":{"Network":"10.0.0.0/8"},"leases":1}
{"key":"10.0.1.0-24","value":{"PublicIP":"192.0.2.1","BackendType":"vxlan"},"created":1,"modified":2,"id":3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := parseMemory(bytes.NewReader(text)); err == nil && !m.Network.Contains(m.Self.Lease) {
			t.Errorf("accepted %+v", m)
		}
	})
}
