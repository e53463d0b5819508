// Package ruleset follows a packet through the rules of netfilter, as
// iptables-save(8) and nft(8) print them. It is pure: text in, and the rules that
// match out. What a rule asks that cannot be known beforehand (a limit, a set of
// another program's making, a connection's state of long ago) makes the answer
// uncertain, and is said.
package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Hook is where netfilter looks at a packet.
type Hook string

// The hooks, in the order in which a forwarded packet meets them.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"

	Ingress          Hook = "ingress"           // of a device, before all others
	BridgePrerouting Hook = "bridge prerouting" // of frames that come in by a bridge's port
)

// Packet is the first of a connection.
type Packet struct {
	In, Out    string // devices; empty where there is none yet
	Src, Dst   netip.Addr
	Proto      string // tcp, udp or icmp; empty: any, so that rules for one may match
	DPort      uint16 // 0: any, so that rules for a port may match
	Mark       uint32
	Translated bool // its destination was another one
}

// Verdict is what a rule does with a packet.
type Verdict string

// The verdicts. Those of the nat table say how an address is translated.
const (
	Accept     Verdict = "accept"
	Drop       Verdict = "drop"
	Reject     Verdict = "reject"
	Return     Verdict = "return"
	Jump       Verdict = "jump"
	Goto       Verdict = "goto"
	DNAT       Verdict = "dnat"
	SNAT       Verdict = "snat"
	Masquerade Verdict = "masquerade"
	Mark       Verdict = "mark"
	Continue   Verdict = "continue" // it counts, logs or comments
)

// Drops reports whether the packet ends there.
func (v Verdict) Drops() bool { return v == Drop || v == Reject }

// Rule is one line of a chain.
type Rule struct {
	Text    string // as its tool writes it
	Delete  string // the command that takes it away
	Verdict Verdict
	Target  string // chain of a jump, or address that is translated to

	conds     []cond
	set, keep uint32 // of Mark: mark = mark &^ keep ^ set
	cases     []rule // of a verdict map: more rules, of which one matches
}

type rule = Rule

// Chain is a list of rules. A base chain has a hook.
type Chain struct {
	Tool     string // iptables, ip6tables, iptables-legacy, ip6tables-legacy or nft
	Family   string // ip, ip6, inet, netdev, bridge
	Table    string
	Name     string
	Hook     Hook
	Devs     []string // of Ingress; none: not known
	NAT      bool
	Priority int
	Policy   Verdict // of a base chain; empty: accept
	Rules    []Rule
}

// Ruleset is all chains of a host.
type Ruleset struct {
	Chains []Chain
	// Unread says which tools could not be asked, and why.
	Unread []string
}

// Step is a rule that a packet meets and that matches, or may.
type Step struct {
	Tool    string  `json:"tool"`
	Table   string  `json:"table"`
	Chain   string  `json:"chain"`
	Rule    string  `json:"rule"`
	Verdict Verdict `json:"verdict"`
	Target  string  `json:"target,omitempty"`
	Sure    bool    `json:"sure"`
	Delete  string  `json:"-"`
}

// Path is what becomes of a packet at one hook.
type Path struct {
	Steps []Step
	// By is the step that drops the packet for certain; nil if none does.
	By *Step
	// Translated is the step that gives it another address; nil if none does.
	Translated *Step
}

// Through follows a packet through a hook.
func (r Ruleset) Through(hook Hook, p Packet) Path {
	var path Path
	bases := []Chain{}
	for i := range r.Chains {
		if c := &r.Chains[i]; c.Hook == hook && c.concerns(p) {
			bases = append(bases, *c)
		}
	}
	slices.SortStableFunc(bases, func(a, b Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, base := range bases {
		if base.NAT && path.Translated != nil {
			continue // a connection is translated once at a hook
		}
		w := walk{r, &path, &p}
		sure := Yes
		if hook == Ingress && len(base.Devs) == 0 {
			sure = Maybe
		}
		end, before := w.chain(base, sure, 0)
		if end == "" && base.Policy.Drops() {
			end = base.Policy
			path.Steps = append(path.Steps, Step{
				Tool: base.Tool, Table: base.Table, Chain: base.Name, Rule: "policy " + string(base.Policy), Verdict: base.Policy,
				Sure: sure == Yes && !before.pass && !before.drop, Delete: base.open(),
			})
		}
		if end.Drops() && sure == Yes && !before.pass {
			path.By = &path.Steps[len(path.Steps)-1]
			return path
		}
	}
	return path
}

func (c Chain) concerns(p Packet) bool {
	switch c.Family {
	case "ip":
		return p.Dst.Is4()
	case "ip6":
		return p.Dst.Is6()
	case "inet", "netdev":
		return c.Hook != Ingress || len(c.Devs) == 0 || slices.Contains(c.Devs, p.In)
	}
	return c.Hook == BridgePrerouting
}

// open is the command that makes a chain's policy accept.
func (c Chain) open() string {
	if c.Tool == "nft" {
		return "nft chain " + c.Family + " " + c.Table + " " + c.Name + " '{ policy accept; }'"
	}
	return c.Tool + " -t " + c.Table + " -P " + c.Name + " ACCEPT"
}

func (r Ruleset) find(from Chain, name string) (Chain, bool) {
	for i := range r.Chains {
		if c := &r.Chains[i]; c.Name == name && c.Tool == from.Tool && c.Family == from.Family && c.Table == from.Table {
			return *c, true
		}
	}
	return Chain{}, false
}

func (r Rule) matches(p Packet) Answer {
	return allOf(r.conds)(p)
}

// named reports whether a device's name is that of a rule, which may end with
// the tool's sign for any other letters.
func named(dev, pattern, any string) bool {
	if begin, ok := strings.CutSuffix(pattern, any); ok {
		return strings.HasPrefix(dev, begin)
	}
	return dev == pattern
}
