package kernel

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// nftRules are chains in tables of nftables: those of our own, and those of newer
// iptables and of firewalld, where what we write reads as if they had written it.
type nftRules struct {
	*nftables
	table string // of our own, one for each Family
}

var _ book = (*nftRules)(nil)

// ErrNoNFTables says that a kernel has no nftables.
var ErrNoNFTables = errors.New("this kernel has no nftables; use --firewall=iptables")

// openNFTRules leaves out what is not there.
func openNFTRules(n *nftables, table string) (*nftRules, error) {
	r := &nftRules{nftables: n, table: table}
	if n.conn == nil {
		return r, nil
	}
	// EINVAL: netfilter without nftables.
	if _, _, err := n.conn.table(protos[subnet.IPv4], table); errors.Is(err, unix.EINVAL) {
		r.nftables = &nftables{}
	} else if err != nil {
		return nil, err
	}
	return r, nil
}

// proto is of the table that a chain stands in.
func proto(t backend.Tool, f subnet.Family) nfgenmsg {
	if t == backend.Firewalld {
		return inet
	}
	return protos[f]
}

func chainRef(table, chain string) body {
	return body(nil).text(unix.NFTA_CHAIN_TABLE, table).text(unix.NFTA_CHAIN_NAME, chain)
}

func ruleRef(table, chain string) body {
	return body(nil).text(unix.NFTA_RULE_TABLE, table).text(unix.NFTA_RULE_CHAIN, chain)
}

// hooks are the definitions of chains that packets come to by themselves.
var hooks = map[backend.Hook]body{
	// Before others of their kind, as our jumps are first in iptables.
	backend.NATPostrouting: hook("nat", unix.NF_INET_POST_ROUTING, 100-1),
	backend.RawPrerouting:  hook("filter", unix.NF_INET_PRE_ROUTING, -300-1),
	backend.RawOutput:      hook("filter", unix.NF_INET_LOCAL_OUT, -300-1),
}

func hook(kind string, number uint32, priority int32) body {
	hook := body(nil).number(unix.NFTA_HOOK_HOOKNUM, number).number(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	return body(nil).put(unix.NFTA_CHAIN_HOOK, hook).number(unix.NFTA_CHAIN_POLICY, verdictAccept).text(unix.NFTA_CHAIN_TYPE, kind)
}

// dump adds the chains in tables of our own.
func (r *nftRules) dump(have, want backend.State) error {
	if r.conn == nil {
		return nil
	}
	for _, f := range subnet.Families {
		there, flags, err := r.conn.table(protos[f], r.table)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		found := map[string]backend.Hook{}
		err = r.conn.dump(nftMessage(unix.NFT_MSG_GETCHAIN), protos[f], func() { clear(found) }, func(m syscall.NetlinkMessage) error {
			b := nftBody(m)
			name := b.string(unix.NFTA_CHAIN_NAME)
			if b.string(unix.NFTA_CHAIN_TABLE) != r.table {
				return nil
			}
			wanted, _ := want[backend.Chain{Tool: backend.NFTables, Family: f, Table: r.table, Name: name}.Key()].(backend.Chain)
			found[name] = wanted.Hook
			if !b.holds(hooks[wanted.Hook]) || flags&flagDormant != 0 {
				found[name] = backend.OtherHook
			}
			return nil
		})
		if err != nil {
			return err
		}
		for name, hook := range found {
			c := backend.Chain{Tool: backend.NFTables, Family: f, Table: r.table, Name: name, Hook: hook}
			wanted, _ := want[c.Key()].(backend.Chain)
			rules, _, err := r.list(c, wanted.Rules)
			if err != nil {
				return err
			}
			c.Rules = backend.Rules(strings.Join(rules, "\n"))
			have.Add(c)
		}
	}
	return nil
}

// list implements book.
func (r *nftRules) list(c backend.Chain, known backend.Rules) ([]string, bool, error) {
	there, err := r.has(c)
	if err != nil || !there {
		return nil, false, err
	}
	patterns := map[string]nftRule{}
	for text := range known.Lines() {
		patterns[text] = r.exprs(c, text)
	}
	var rules []string
	err = r.each(c, func() { rules = nil }, func(_ uint64, rule body) {
		text := "another rule"
		if endsAll(rule) {
			text = "-j DROP"
		}
		for name, pattern := range patterns {
			if pattern.is(rule) {
				text = name
			}
		}
		rules = append(rules, text)
	})
	return rules, true, err
}

// has reports whether a chain is there, in a table that others may write to.
func (r *nftRules) has(c backend.Chain) (bool, error) {
	if r.conn == nil {
		return false, nil
	}
	if c.Tool == backend.Firewalld {
		if _, flags, err := r.conn.table(inet, c.Table); err != nil || flags&flagOwner != 0 {
			return false, err // Firewalls tells of it
		}
	}
	got, err := r.conn.get(unix.NFT_MSG_GETCHAIN, proto(c.Tool, c.Family), chainRef(c.Table, c.Name))
	return got != nil, err
}

// exprs is the rule that a line stands for, in a chain.
func (r *nftRules) exprs(c backend.Chain, line string) nftRule {
	p := proto(c.Tool, c.Family)
	if rule, ok := backend.ParseRule(line); ok {
		return exprs(rule, c.Family, p)
	}
	return jumpExprs(strings.TrimPrefix(line, "-j "), c.Family, p)
}

// each calls f for the handle and the expressions of each rule of a chain.
func (r *nftRules) each(c backend.Chain, reset func(), f func(handle uint64, rule body)) error {
	return r.conn.dump(nftMessage(unix.NFT_MSG_GETRULE), proto(c.Tool, c.Family), reset, func(m syscall.NetlinkMessage) error {
		b := nftBody(m)
		// Linux before 4.17 tells of all chains.
		if b.string(unix.NFTA_RULE_TABLE) == c.Table && b.string(unix.NFTA_RULE_CHAIN) == c.Name && len(b.get(unix.NFTA_RULE_HANDLE)) == 8 {
			f(binary.BigEndian.Uint64(b.get(unix.NFTA_RULE_HANDLE)), b.get(unix.NFTA_RULE_EXPRESSIONS))
		}
		return nil
	}, ruleRef(c.Table, c.Name))
}

// setChain implements book, in one transaction.
func (r *nftRules) setChain(c backend.Chain, _ bool) error {
	if r.conn == nil {
		return ErrNoNFTables
	}
	p := proto(c.Tool, c.Family)
	if c.Tool == backend.NFTables {
		t := r.begin(p)
		t.wake(c.Table)
		if err := r.commit(t); err != nil {
			return err
		}
	}
	chain := nftChain{name: c.Name, hook: hooks[c.Hook]}
	for line := range c.Rules.Lines() {
		chain.rules = append(chain.rules, r.exprs(c, line))
	}
	t := r.begin(p)
	t.set(c.Table, chain)
	return r.commit(t)
}

// deleteChain implements book. The last chain of a table of ours takes the table
// with it.
func (r *nftRules) deleteChain(c backend.Chain) error {
	p := proto(c.Tool, c.Family)
	t := r.begin(p)
	t.remove(unix.NFT_MSG_DELRULE, ruleRef(c.Table, c.Name))
	t.remove(unix.NFT_MSG_DELCHAIN, chainRef(c.Table, c.Name))
	if err := r.commit(t); err != nil || c.Tool != backend.NFTables {
		return err
	}
	left := 0
	err := r.conn.dump(nftMessage(unix.NFT_MSG_GETCHAIN), p, func() { left = 0 }, func(m syscall.NetlinkMessage) error {
		if nftBody(m).string(unix.NFTA_CHAIN_TABLE) == c.Table {
			left++
		}
		return nil
	})
	if err != nil || left > 0 {
		return err
	}
	t = r.begin(p)
	t.remove(unix.NFT_MSG_DELTABLE, body(nil).text(unix.NFTA_TABLE_NAME, c.Table))
	return r.commit(t)
}

// setJump implements book, in one transaction.
func (r *nftRules) setJump(j backend.Jump) error {
	old, err := r.jumps(j)
	if err != nil {
		return err
	}
	t := r.begin(proto(j.Tool, j.Family))
	t.insert(ruleRef(j.Table, j.From).put(unix.NFTA_RULE_EXPRESSIONS, jumpExprs(j.To, j.Family, t.proto).encode()))
	for _, handle := range old {
		t.remove(unix.NFT_MSG_DELRULE, ruleRef(j.Table, j.From).put(unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, handle)))
	}
	return r.commit(t)
}

// deleteJump implements book.
func (r *nftRules) deleteJump(j backend.Jump) error {
	handles, err := r.jumps(j)
	if err != nil || len(handles) == 0 {
		return err
	}
	t := r.begin(proto(j.Tool, j.Family))
	for _, handle := range handles {
		t.remove(unix.NFT_MSG_DELRULE, ruleRef(j.Table, j.From).put(unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, handle)))
	}
	return r.commit(t)
}

// jumps are the handles of all rules that are this jump.
func (r *nftRules) jumps(j backend.Jump) ([]uint64, error) {
	if r.conn == nil {
		return nil, ErrNoNFTables
	}
	var handles []uint64
	from := backend.Chain{Tool: j.Tool, Family: j.Family, Table: j.Table, Name: j.From}
	jump := r.exprs(from, jumpRule(j))
	err := r.each(from, func() { handles = nil }, func(handle uint64, rule body) {
		if jump.is(rule) {
			handles = append(handles, handle)
		}
	})
	return handles, err
}
