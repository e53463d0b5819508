package backend

import (
	"fmt"
	"strings"

	"tulle/subnet"
)

// Tool is the program whose tables a chain stands in.
type Tool uint8

// The tools. A packet that is forwarded is asked about in the tables of each that
// has a FORWARD chain, and one that drops it is enough: so that is where what is
// accepted has to be told.
const (
	IPTables       Tool = iota // filter, nat and raw of iptables and ip6tables
	IPTablesLegacy             // those of the kind before nftables, where iptables is the newer one
	NFTables                   // a table of our own for each family
	Firewalld                  // those of firewalld, for both families
)

var tools = [...]string{IPTables: "iptables", IPTablesLegacy: "iptables-legacy", NFTables: "nftables", Firewalld: "firewalld"}

func (t Tool) String() string { return tools[t] }

// Chain is a firewall chain of ours with all its rules.
type Chain struct {
	Tool   Tool
	Family subnet.Family
	Table  string
	Name   string
	Hook   Hook // only in NFTables: by which packets come without a Jump
	Rules  Rules
	// Optional says that the table belongs to a program which the host may do
	// without; while it does not exist, there is nothing to write.
	Optional bool
}

// Key is the tool, the family, the table and the name.
func (c Chain) Key() Key {
	return Key{Kind: KindChain, Name: chainName(c.Tool, c.Family, c.Table, c.Name)}
}

func (c Chain) String() string {
	rules := 0
	for range c.Rules.Lines() {
		rules++
	}
	text := fmt.Sprintf("chain %s with %d rules", chainName(c.Tool, c.Family, c.Table, c.Name), rules)
	if rules == 1 {
		text = strings.TrimSuffix(text, "s")
	}
	if c.Hook == OtherHook {
		text += " (not where packets come by)"
	}
	return text + ifThere(c.Optional)
}

// Hook is where the kernel leads packets to a chain of nftables by itself.
type Hook uint8

// The hooks of our chains.
const (
	NoHook         Hook = iota
	NATPostrouting      // what leaves, to be given another source
	RawPrerouting       // what comes, before connections are tracked
	RawOutput           // what this host sends, before connections are tracked
	OtherHook           // none of these; never wanted
)

// Jump is the rule that leads from a chain of the host to one of ours.
type Jump struct {
	Tool   Tool
	Family subnet.Family
	Table  string
	From   string // "POSTROUTING", "FORWARD"
	To     string // a Chain's Name
	// Optional is as in Chain.
	Optional bool
	// Unreached says that an earlier rule of From ends every packet's way
	// (`-j REJECT` or `-j DROP` without a match); false in what is wanted.
	Unreached bool
	// Repeated says that it stands there more than once, as where somebody saved
	// rules and loaded them again; false in what is wanted.
	Repeated bool
}

// Key is the tool, the family, the table and both chains.
func (j Jump) Key() Key {
	return Key{Kind: KindJump, Name: chainName(j.Tool, j.Family, j.Table, j.From) + " " + j.To}
}

func (j Jump) String() string {
	text := fmt.Sprintf("jump %s to %s", chainName(j.Tool, j.Family, j.Table, j.From), j.To)
	if j.Unreached {
		text += " (not reached: an earlier rule drops everything)"
	}
	if j.Repeated {
		text += " (more than once)"
	}
	return text + ifThere(j.Optional)
}

func ifThere(optional bool) string {
	if optional {
		return ", if there is such a table"
	}
	return ""
}

// chainName is a chain in the words of iptables(8) or nft(8).
func chainName(t Tool, f subnet.Family, table, chain string) string {
	words := []string{[2]string{"iptables", "ip6tables"}[f], table, chain}
	switch t {
	case IPTablesLegacy:
		words[0] += "-legacy"
	case NFTables:
		words = []string{"nftables", [2]string{"ip", "ip6"}[f], table, chain}
	case Firewalld:
		words = []string{"nftables", "inet", table, chain}
	}
	return strings.Join(words, " ")
}
