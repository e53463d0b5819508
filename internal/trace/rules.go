package trace

import (
	"fmt"
	"net/netip"
	"strings"

	"tulle/internal/ruleset"
)

// telling are the steps of a path that an operator wants to see: what matched for
// certain, and what may drop or translate.
func telling(steps []ruleset.Step) []ruleset.Step {
	var list []ruleset.Step
	for _, s := range steps {
		if s.Sure || s.Verdict.Drops() || s.Verdict == ruleset.DNAT {
			list = append(list, s)
		}
	}
	return list
}

// rules passes a hook, and reports whether the packet goes on.
func (t *tracer) rules(hook ruleset.Hook, p ruleset.Packet) bool {
	if t.trace.End.Where != "" {
		return false
	}
	path := t.Rules().Through(hook, p)
	steps := telling(path.Steps)
	if len(steps) > 0 {
		t.hop(Hop{Step: "rules", Text: describe(hook, steps), Rules: steps})
	}
	if path.By == nil {
		return true
	}
	t.lost(fmt.Sprintf("a rule of %s %s drops it: %s", path.By.Table, path.By.Chain, strings.TrimPrefix(path.By.Rule, "-A "+path.By.Chain+" ")), path.By.Delete)
	return false
}

// describe is a hook's steps in lines.
func describe(hook ruleset.Hook, steps []ruleset.Step) string {
	lines := []string{string(hook)}
	for _, s := range steps {
		sure := ""
		if !s.Sure {
			sure = "perhaps "
		}
		lines = append(lines, fmt.Sprintf("  %s%s %s: %s", sure, s.Table, s.Chain, strings.TrimPrefix(s.Rule, "-A "+s.Chain+" ")))
	}
	return strings.Join(lines, "\n")
}

// translate passes the first hook, where a service's address becomes that of a
// pod. It reports whether the way ends there.
func (t *tracer) translate(hook ruleset.Hook) bool {
	if unread := t.Rules().Unread; len(unread) > 0 {
		t.hop(Hop{Step: "rules", Text: "not all could be read, so what those do is not known: " + strings.Join(unread, "; ")})
	}
	path := t.Rules().Through(hook, t.packet)
	if t.packet.Proto == "" && path.Translated == nil {
		// Services are for a protocol; which one was not told.
		for _, proto := range []string{"tcp", "udp"} {
			p := t.packet
			p.Proto = proto
			if try := t.Rules().Through(hook, p); endpoints(try) != nil {
				path, t.packet.Proto = try, proto
				break
			}
		}
	}
	steps := telling(path.Steps)
	if len(steps) > 0 {
		t.hop(Hop{Step: "rules", Text: describe(hook, steps), Rules: steps})
	}
	if path.By != nil {
		t.lost(fmt.Sprintf("a rule of %s %s drops it: %s", path.By.Table, path.By.Chain, strings.TrimPrefix(path.By.Rule, "-A "+path.By.Chain+" ")), path.By.Delete)
		return true
	}
	list := endpoints(path)
	if len(list) == 0 {
		return false
	}
	to := list[0]
	text := fmt.Sprintf("%s is a service's address, which netfilter makes %s", t.packet.Dst, to)
	if len(list) > 1 {
		var others []string
		for _, e := range list[1:] {
			others = append(others, e.String())
		}
		text += fmt.Sprintf(", or else %s", strings.Join(others, ", "))
	}
	t.hop(Hop{Step: "service", Text: text})
	t.packet.Dst, t.packet.Translated = to.Addr(), true
	if to.Port() != 0 {
		t.packet.DPort = to.Port()
	}
	return false
}

// endpoints are the addresses that a path may translate to.
func endpoints(p ruleset.Path) []netip.AddrPort {
	var list []netip.AddrPort
	for _, s := range p.Steps {
		if s.Verdict != ruleset.DNAT {
			continue
		}
		if a, err := netip.ParseAddrPort(s.Target); err == nil {
			list = append(list, a)
		} else if a, err := netip.ParseAddr(s.Target); err == nil {
			list = append(list, netip.AddrPortFrom(a, 0))
		}
	}
	return list
}
