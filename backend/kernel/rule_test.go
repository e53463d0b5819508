package kernel

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/subnet"
)

// Both kinds of iptables and both families: rules read back as they were
// written, and whatever is done to them is put right.
func TestChains(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		for _, f := range subnet.Families {
			t.Run(kind+" "+f.String(), func(t *testing.T) { testChains(t, kind, f) })
		}
	}
}

// useIPTables puts one kind of iptables first in PATH.
func useIPTables(t *testing.T, kind string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"} {
		program, task, _ := strings.Cut(name, "-")
		real := program + "-" + kind
		if task != "" {
			real += "-" + task
		}
		path, err := exec.LookPath(real)
		if err != nil {
			t.Fatalf("%v; install the package iptables", err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// clusters and owns are the prefixes of the tests' network and node.
var (
	clusters = [2]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd42::/48")}
	owns     = [2]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd42:0:0:1::/64")}
)

// input is a node's with one family.
func input(f subnet.Family, tool backend.Tool) backend.Input {
	in := backend.Input{Masq: true, Firewall: tool, Guard: backend.GuardStrict}
	in.Network.Pools[f].Prefix = clusters[f]
	in.Network.Backend.Port = 8472
	in.Network.NonMasquerade = subnet.NewPrefixes(netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48"))
	in.Self.Subnets[f] = owns[f]
	in.Underlay.Family = f
	in.Underlay.Addrs[f] = [2]netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}[f]
	return in
}

// rules are the real ones of such a node.
func rules(f subnet.Family) backend.State { return firewall.Desired(input(f, backend.IPTables)) }

func jumps(f subnet.Family) []backend.Jump { return firewall.Jumps(input(f, backend.IPTables)) }

func testChains(t *testing.T, kind string, f subnet.Family) {
	h := fresh(t)
	useIPTables(t, kind)
	want := rules(f)
	own := owns[f].String()
	k := open(t, jumps(f)...)
	apply(t, k, want)
	same(t, k, want)

	tables := "iptables"
	if f == subnet.IPv6 {
		tables = "ip6tables"
	}
	for _, test := range []struct{ name, command string }{
		{"rules flushed", "-t nat -F"},
		{"a rule deleted", "-t nat -D TULLE-POSTROUTING 2"},
		{"a rule added", "-I TULLE-FORWARD -j DROP"},
		{"the jump deleted", "-D FORWARD -j TULLE-FORWARD"},
		{"the jump there three times", "-A FORWARD -j TULLE-FORWARD;-A FORWARD -j TULLE-FORWARD"},
		{"a rule that rejects everything before the jump", "-I FORWARD -j REJECT"},
		{"chain deleted", "-t nat -F POSTROUTING;-t nat -F TULLE-POSTROUTING;-t nat -X TULLE-POSTROUTING"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.enter(t)
			for command := range strings.SplitSeq(test.command, ";") {
				run(t, tables+" "+command)
			}
			if len(apply(t, k, want)) == 0 {
				t.Error("the pass saw no difference")
			}
			same(t, k, want)
		})
	}

	t.Run("what is no longer wanted goes, a stranger's rule stays", func(t *testing.T) {
		h.enter(t)
		run(t, tables+" -t nat -A POSTROUTING -s "+own+" -j ACCEPT")
		run(t, tables+" -A FORWARD -j TULLE-FORWARD") // as it is after rules were saved and loaded again
		apply(t, k, backend.State{})
		got := run(t, tables+"-save")
		if strings.Contains(got, "TULLE") || !strings.Contains(got, "-A POSTROUTING -s "+own+" -j ACCEPT") {
			t.Errorf("left is\n%s", got)
		}
	})
}

// Others write to the same chains, also while our jump is put first.
func TestJumpPutFirstBesideOthers(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			fresh(t)
			useIPTables(t, kind)
			real, err := exec.LookPath("iptables")
			if err != nil {
				t.Fatal(err)
			}
			if real, err = os.Readlink(real); err != nil {
				t.Fatal(err)
			}
			// Somebody comes as soon as the chain has been listed.
			dir := t.TempDir()
			flag := filepath.Join(dir, "now")
			script := "#!/bin/sh\n" + real + ` "$@"; status=$?
				case "$*" in *"-S FORWARD"*) if rm ` + flag + ` 2>/dev/null; then ` + real + ` -I FORWARD -s 203.0.113.1 -j ACCEPT; fi;; esac
				exit $status`
			if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

			k := open(t, jumps(subnet.IPv4)...)
			want := rules(subnet.IPv4)
			apply(t, k, want)
			run(t, real+" -I FORWARD -j REJECT")
			run(t, real+" -A FORWARD -j TULLE-FORWARD") // as it is after rules were saved and loaded again
			changes := backend.Diff(want, dump(t, k, want))
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := k.Apply(t.Context(), changes); err != nil {
				t.Fatal(err)
			}
			const left = "-P FORWARD ACCEPT\n-A FORWARD -j TULLE-FORWARD\n-A FORWARD -s 203.0.113.1/32 -j ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n"
			if got := run(t, real+" -S FORWARD"); got != left {
				t.Errorf("the chain is\n%swant\n%s", got, left)
			}
			same(t, k, want)
		})
	}
}

func TestIPTablesMissing(t *testing.T) {
	fresh(t)
	t.Setenv("PATH", t.TempDir())
	_, err := Open(Config{Jumps: jumps(subnet.IPv4)})
	if err == nil || !strings.Contains(err.Error(), "install the package iptables") {
		t.Errorf("Open without iptables = %v, want an error that says what to install", err)
	}
}
