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
)

// Packet is the first of a connection.
type Packet struct {
	In, Out  string // devices; empty where there is none yet
	Src, Dst netip.Addr
	Proto    string // tcp, udp or icmp
	DPort    uint16 // 0: any, so that rules for a port may match
	Mark     uint32
}

// Answer says whether something holds.
type Answer int

// The answers.
const (
	No Answer = iota
	Maybe
	Yes
)

// not is the answer to the opposite.
func (a Answer) not() Answer { return Yes - a }

func answer(holds bool) Answer {
	if holds {
		return Yes
	}
	return No
}

// cond is one condition of a rule.
type cond func(Packet) Answer

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
	Family   string // ip, ip6, inet
	Table    string
	Name     string
	Hook     Hook
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
	for _, c := range r.Chains {
		if c.Hook == hook && c.concerns(p) {
			bases = append(bases, c)
		}
	}
	slices.SortStableFunc(bases, func(a, b Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, base := range bases {
		if base.NAT && path.Translated != nil {
			continue // a connection is translated once at a hook
		}
		w := walk{r, base, &path, &p}
		end, there := w.chain(base, Yes, 0)
		if end == "" && base.Policy.Drops() {
			path.Steps = append(path.Steps, Step{
				Tool: base.Tool, Table: base.Table, Chain: base.Name, Rule: "policy " + string(base.Policy), Verdict: base.Policy, Sure: there == Yes,
				Delete: base.open(),
			})
			end = base.Policy
		}
		if end.Drops() && there == Yes {
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
	case "inet":
		return true
	}
	return false // bridges and devices have hooks of their own
}

// open is the command that makes a chain's policy accept.
func (c Chain) open() string {
	if c.Tool == "nft" {
		return "nft chain " + c.Family + " " + c.Table + " " + c.Name + " '{ policy accept; }'"
	}
	return c.Tool + " -t " + c.Table + " -P " + c.Name + " ACCEPT"
}

// walk is one packet in one base chain.
type walk struct {
	all    Ruleset
	base   Chain
	path   *Path
	packet *Packet
}

// deepest is how many jumps may follow one another, as the kernel has it.
const deepest = 16

// chain follows the rules of a chain. It returns the verdict that ends the way
// through the base chain, or none if the chain's end is reached, and how sure it
// is that the packet gets there.
func (w walk) chain(c Chain, sure Answer, depth int) (end Verdict, there Answer) {
	there = sure // lowered by verdicts that the packet may have met
	for _, r := range c.Rules {
		rules := []Rule{r}
		if r.cases != nil {
			rules = r.cases
		}
		for _, one := range rules {
			matches := min(one.matches(*w.packet), sure)
			if r.cases != nil {
				matches = min(matches, r.matches(*w.packet))
			}
			if matches == No || one.Verdict == Continue {
				continue
			}
			end, left, after := w.rule(c, one, matches, depth)
			switch {
			case left && one.Verdict == Return:
				return "", there
			case left:
				return end, there
			case one.Verdict == Return: // it may have returned: then it is there all the same
				sure = Maybe
			case after < Yes:
				sure, there = min(sure, after), min(there, after)
			}
		}
	}
	return "", there
}

// rule does what a rule says that matches, or may. With left, the packet is no
// longer in the chain for certain; else after says how sure it is that it is.
func (w walk) rule(c Chain, r Rule, matches Answer, depth int) (end Verdict, left bool, after Answer) {
	step := Step{
		Tool: c.Tool, Table: c.Table, Chain: c.Name, Rule: r.Text, Verdict: r.Verdict, Target: r.Target, Sure: matches == Yes, Delete: r.Delete,
	}
	w.path.Steps = append(w.path.Steps, step)
	switch r.Verdict {
	case Mark:
		if matches == Yes {
			w.packet.Mark = w.packet.Mark&^r.keep ^ r.set
		}
		return "", false, Yes
	case Jump, Goto:
		next, ok := w.all.find(c, r.Target)
		if !ok || depth == deepest {
			return "", false, Yes
		}
		end, there := w.chain(next, matches, depth+1)
		switch {
		case end != "" && matches == Yes && there == Yes:
			return end, true, Yes
		case end != "":
			return "", false, Maybe
		}
		if matches == Maybe && there == Maybe && !w.may(next) {
			there = Yes // nothing in there ends a packet's way
		}
		return "", r.Verdict == Goto && matches == Yes, there
	}
	if matches != Yes {
		return "", false, Maybe
	}
	if r.Verdict == DNAT || r.Verdict == SNAT || r.Verdict == Masquerade {
		w.path.Translated = &step
	}
	return r.Verdict, true, Yes
}

// may reports whether a chain has a verdict of its own, or leads on.
func (w walk) may(c Chain) bool {
	for _, r := range c.Rules {
		if r.cases != nil || r.Verdict != Continue && r.Verdict != Mark && r.Verdict != Return {
			return true
		}
	}
	return false
}

func (r Ruleset) find(from Chain, name string) (Chain, bool) {
	for _, c := range r.Chains {
		if c.Tool == from.Tool && c.Family == from.Family && c.Table == from.Table && c.Name == name {
			return c, true
		}
	}
	return Chain{}, false
}

func (r Rule) matches(p Packet) Answer {
	all := Yes
	for _, c := range r.conds {
		all = min(all, c(p))
	}
	return all
}

// named reports whether a device's name is that of a rule, which may end with
// the tool's sign for any other letters.
func named(dev, pattern, any string) bool {
	if begin, ok := strings.CutSuffix(pattern, any); ok {
		return strings.HasPrefix(dev, begin)
	}
	return dev == pattern
}
