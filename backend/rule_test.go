package backend_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"tulle/backend"
)

func randomRule(r *rand.Rand) backend.Rule {
	rule := backend.Rule{Verdict: backend.Verdict(r.IntN(4))}
	prefix := func() (netip.Prefix, bool) {
		switch r.IntN(3) {
		case 0:
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(256))}), 16+r.IntN(17)).Masked(), r.IntN(2) == 0
		case 1:
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(r.IntN(256))}), 16+r.IntN(113)).Masked(), r.IntN(2) == 0
		}
		return netip.Prefix{}, false
	}
	rule.Src, rule.NotSrc = prefix()
	rule.Dst, rule.NotDst = prefix()
	rule.Port = uint16(r.IntN(2) * (1 + r.IntN(65535)))
	rule.Mark = uint32(r.IntN(2)) << r.IntN(32)
	return rule
}

// Parsed, a rule's text is the rule, and rules are as many as were put together.
func TestRuleLaw(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 6))
	var all []backend.Rule
	for range 2000 {
		rule := randomRule(r)
		if got, ok := backend.ParseRule(rule.String()); !ok || got != rule {
			t.Fatalf("ParseRule(%q) = %+v, %t, want %+v", rule, got, ok, rule)
		}
		all = append(all, rule)
	}
	for n := range 4 {
		if got := len(slices.Collect(backend.NewRules(all[:n]...).Lines())); got != n {
			t.Errorf("%d rules have %d lines", n, got)
		}
	}
}

func TestParseRuleRefusesOthers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "-j DROP", "-s 10.244.0.0/16", "-s 10.244.0.0/16 -o eth0 -j ACCEPT", "-s 10.244.0.1/16x -j ACCEPT", "-s 10.244.0.0/16 -j ACCEPT -j ACCEPT",
		"-p udp -m udp --dport 70000 -j ACCEPT", "-m mark --mark 0x4000/0x8000 -j RETURN", "! -j ACCEPT",
	} {
		if r, ok := backend.ParseRule(text); ok {
			t.Errorf("ParseRule(%q) = %v, want it refused", text, r)
		}
	}
}
