package look

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRulesOfDevices: the devices of chains at the hook ingress are known, also
// where nft(8) leaves them out of JSON.
func TestRulesOfDevices(t *testing.T) {
	inNetns(t)
	addVeth(t, "a0")
	run(t, `nft -f - <<X
table netdev early {
	chain in {
		type filter hook ingress device "a0" priority 0; policy accept;
	}
}
X`)
	rules := readRules()
	if len(rules.Unread) > 0 {
		t.Fatalf("not read: %q", rules.Unread)
	}
	for _, c := range rules.Chains {
		if c.Table == "early" {
			if len(c.Devs) != 1 || c.Devs[0] != "a0" {
				t.Errorf("the devices are %q, want a0", c.Devs)
			}
			return
		}
	}
	t.Errorf("no such chain: %+v", rules.Chains)
}

// TestRulesThatCannotBeRead: what is not known is told.
func TestRulesThatCannotBeRead(t *testing.T) {
	inNetns(t)
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if got, want := readRules().Unread, `nft -j list ruleset: exec: "nft": executable file not found in $PATH`; len(got) != 1 || got[0] != want {
		t.Errorf("not read: %q, want %s", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "nft"), []byte("#!/bin/sh\necho no such luck >&2\necho and more >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := readRules().Unread, `nft -j list ruleset: exit status 1: no such luck`; len(got) != 1 || got[0] != want {
		t.Errorf("not read: %q, want %s", got, want)
	}
}
