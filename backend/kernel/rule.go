package kernel

import (
	"slices"
	"strings"

	"tulle/backend"
)

// tables are the firewall's.
type tables struct {
	jumps    []backend.Jump // of iptables
	foreign  []backend.Jump // of other tools
	iptables book           // of IPTables
	legacy   book           // of IPTablesLegacy; nil: those are the tables of iptables
	rules    *nftRules      // of all else
}

// book is where chains of some tables are read and written.
type book interface {
	// list is a chain's rules without "-A CHAIN ", and whether the chain exists. A
	// rule that is none of known may be told as something that it is not.
	list(chain backend.Chain, known backend.Rules) ([]string, bool, error)
	// setChain writes all rules of a chain. At no moment a packet finds fewer of
	// them than before.
	setChain(c backend.Chain, create bool) error
	deleteChain(c backend.Chain) error
	// setJump puts a jump first, where no rule can drop packets before, and removes
	// those that stand later.
	setJump(j backend.Jump) error
	deleteJump(j backend.Jump) error
}

func openTables(c Config, n *nftables) (*tables, error) {
	t := &tables{}
	for _, j := range c.Jumps {
		if j.Tool == backend.IPTables {
			t.jumps = append(t.jumps, j)
		} else {
			t.foreign = append(t.foreign, j)
		}
	}
	var err error
	if t.rules, err = openNFTRules(n, c.Table); err != nil {
		return nil, err
	}
	t.iptables, t.legacy = t.rules, &programs{names: legacyNames, loaded: true}
	if c.Firewall == backend.IPTables && len(t.jumps) > 0 {
		p := &programs{names: programNames}
		if err := p.openAll(t.jumps); err != nil {
			return nil, err
		}
		t.iptables = p
		if kind, _ := programKind(); kind == kindLegacy {
			t.legacy = nil
		}
	}
	return t, nil
}

// book is that of a tool; nil if it has no tables.
func (t *tables) book(tool backend.Tool) book {
	switch tool {
	case backend.IPTables:
		return t.iptables
	case backend.IPTablesLegacy:
		return t.legacy
	}
	return t.rules
}

func (t *tables) dump(have, want backend.State) error {
	for _, j := range slices.Concat(t.jumps, t.foreign) {
		if err := t.dumpJump(have, want, j); err != nil {
			return err
		}
	}
	return t.rules.dump(have, want)
}

// dumpJump reads a jump and the chain that it leads to.
func (t *tables) dumpJump(have, want backend.State, j backend.Jump) error {
	b := t.book(j.Tool)
	c := backend.Chain{Tool: j.Tool, Family: j.Family, Table: j.Table, Name: j.To}
	wanted, _ := want[c.Key()].(backend.Chain)
	c.Optional, j.Optional = wanted.Optional, wanted.Optional
	var rules, before []string
	var there, fromThere bool
	var err error
	if b != nil {
		if rules, there, err = b.list(c, wanted.Rules); err != nil {
			return err
		}
	}
	if !there && !c.Optional {
		return nil // and what is not there is not jumped to
	}
	if b != nil {
		from := c
		from.Name = j.From
		if before, fromThere, err = b.list(from, jumpRules(j)); err != nil {
			return err
		}
	}
	if !fromThere && c.Optional {
		have.Add(wanted, j)
		return nil
	}
	if !there {
		return nil
	}
	c.Rules = backend.Rules(strings.Join(rules, "\n"))
	have.Add(c)
	if at := slices.Index(before, jumpRule(j)); at >= 0 {
		j.Unreached = slices.ContainsFunc(before[:at], dropsAll)
		j.Repeated = slices.Contains(before[at+1:], jumpRule(j))
		have.Add(j)
	}
	return nil
}

func jumpRule(j backend.Jump) string { return "-j " + j.To }

func jumpRules(j backend.Jump) backend.Rules { return backend.Rules(jumpRule(j)) }

// dropsAll reports whether no packet goes past a rule.
func dropsAll(rule string) bool {
	return rule == "-j DROP" || rule == "-j REJECT" || strings.HasPrefix(rule, "-j REJECT --reject-with ")
}

// change makes the change of a row. One that is optional may come without a look at
// the tables before, so it looks whether there is one to write to.
func (t *tables) change(c backend.Change) error {
	row := c.Want
	if row == nil {
		row = c.Have
	}
	if there, err := t.writable(row); err != nil || !there {
		return err
	}
	switch e := c.Want.(type) {
	case backend.Chain:
		return t.book(e.Tool).setChain(e, c.Have == nil)
	case backend.Jump:
		return t.book(e.Tool).setJump(e)
	}
	switch e := c.Have.(type) {
	case backend.Chain:
		return t.book(e.Tool).deleteChain(e)
	case backend.Jump:
		return t.book(e.Tool).deleteJump(e)
	}
	return nil
}

// writable reports whether an optional row has the chain that leads to it. Any
// other row can be written.
func (t *tables) writable(row backend.Entry) (bool, error) {
	var from backend.Chain
	switch e := row.(type) {
	case backend.Jump:
		from = backend.Chain{Tool: e.Tool, Family: e.Family, Table: e.Table, Name: e.From, Optional: e.Optional}
	case backend.Chain:
		from = e
		for _, j := range slices.Concat(t.jumps, t.foreign) {
			if j.Tool == e.Tool && j.Family == e.Family && j.Table == e.Table && j.To == e.Name {
				from.Name = j.From
			}
		}
	}
	if !from.Optional {
		return true, nil
	}
	b := t.book(from.Tool)
	if b == nil {
		return false, nil
	}
	_, there, err := b.list(from, "")
	return there, err
}
