package backend

import (
	"fmt"
	"strings"

	"tulle/subnet"
)

// Chain is a firewall chain of ours with all its rules.
type Chain struct {
	Family subnet.Family
	Table  string // "nat" or "filter"
	Name   string
	Rules  string // one per line, as `iptables -S` prints them behind "-A CHAIN "
}

// Key is the family, the table and the name.
func (c Chain) Key() Key { return Key{Kind: KindChain, Name: ruleKey(c.Family, c.Table, c.Name)} }

func (c Chain) String() string {
	rules := 0
	if c.Rules != "" {
		rules = strings.Count(c.Rules, "\n") + 1
	}
	return fmt.Sprintf("chain %s with %d rules", ruleKey(c.Family, c.Table, c.Name), rules)
}

// Jump is the rule that leads from a chain of the host to one of ours.
type Jump struct {
	Family subnet.Family
	Table  string
	From   string // "POSTROUTING", "FORWARD"
	To     string // a Chain's Name
	// Unreached says that an earlier rule of From ends every packet's way
	// (`-j REJECT` or `-j DROP` without a match); false in what is wanted.
	Unreached bool
}

// Key is the family, the table and both chains.
func (j Jump) Key() Key {
	return Key{Kind: KindJump, Name: ruleKey(j.Family, j.Table, j.From) + " " + j.To}
}

func (j Jump) String() string {
	text := fmt.Sprintf("jump %s to %s", ruleKey(j.Family, j.Table, j.From), j.To)
	if j.Unreached {
		text += " (not reached: an earlier rule drops everything)"
	}
	return text
}

func ruleKey(f subnet.Family, table, chain string) string {
	if f == subnet.IPv6 {
		return "ip6tables " + table + " " + chain
	}
	return "iptables " + table + " " + chain
}
