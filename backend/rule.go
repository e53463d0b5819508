package backend

import (
	"fmt"
	"iter"
	"net/netip"
	"strconv"
	"strings"
)

// Rule says what becomes of some packets. It is the same for each Tool.
type Rule struct {
	Src, Dst       netip.Prefix // not valid: any
	NotSrc, NotDst bool         // any other than that
	Port           uint16       // destination of a UDP packet; 0: any packet
	Mark           uint32       // bits that are set in the packet's mark; 0: any
	Verdict        Verdict
}

// Verdict is what becomes of a packet that a Rule is about.
type Verdict uint8

// The verdicts.
const (
	Accept     Verdict = iota
	Return             // no later rule of the chain is asked
	Masquerade         // its source becomes this host's, with a port drawn at random
	NoTrack            // no connection is made of it, and so it is never translated
)

var verdicts = [...]string{Accept: "ACCEPT", Return: "RETURN", Masquerade: "MASQUERADE --random-fully", NoTrack: "CT --notrack"}

func (v Verdict) String() string { return verdicts[v] }

// String is the rule as `iptables -S` prints it behind "-A CHAIN ".
func (r Rule) String() string {
	var b strings.Builder
	prefix := func(not bool, option string, p netip.Prefix) {
		if !p.IsValid() {
			return
		}
		if not {
			b.WriteString("! ")
		}
		b.WriteString(option + " " + p.String() + " ")
	}
	prefix(r.NotSrc, "-s", r.Src)
	prefix(r.NotDst, "-d", r.Dst)
	if r.Port != 0 {
		fmt.Fprintf(&b, "-p udp -m udp --dport %d ", r.Port)
	}
	if r.Mark != 0 {
		fmt.Fprintf(&b, "-m mark --mark %#x/%#x ", r.Mark, r.Mark)
	}
	return b.String() + "-j " + r.Verdict.String()
}

// ParseRule reads what String wrote. Of a rule of any other form it reports false.
func ParseRule(text string) (Rule, bool) {
	var r Rule
	matches, verdict, _ := strings.Cut(text, "-j ")
	for v, name := range verdicts {
		if name == verdict {
			r.Verdict = Verdict(v)
		}
	}
	words := strings.Fields(matches)
	for i := 0; i+1 < len(words); i++ {
		switch value := words[i+1]; words[i] {
		case "-s":
			r.Src, _ = netip.ParsePrefix(value)
			r.NotSrc = i > 0 && words[i-1] == "!"
		case "-d":
			r.Dst, _ = netip.ParsePrefix(value)
			r.NotDst = i > 0 && words[i-1] == "!"
		case "--dport":
			port, _ := strconv.ParseUint(value, 10, 16)
			r.Port = uint16(port)
		case "--mark":
			bits, _, _ := strings.Cut(value, "/")
			mark, _ := strconv.ParseUint(bits, 0, 32)
			r.Mark = uint32(mark)
		}
	}
	return r, r.String() == text
}

// Rules is the rules of a chain in their order, as text, so that two are the same
// if they are ==. One line stands for each, as of Rule.String where it is ours.
type Rules string

// NewRules is the Rules of some.
func NewRules(rules ...Rule) Rules {
	lines := make([]string, len(rules))
	for i, r := range rules {
		lines[i] = r.String()
	}
	return Rules(strings.Join(lines, "\n"))
}

// Lines is each rule's text.
func (r Rules) Lines() iter.Seq[string] {
	return func(yield func(string) bool) {
		if r == "" {
			return
		}
		strings.SplitSeq(string(r), "\n")(yield)
	}
}
