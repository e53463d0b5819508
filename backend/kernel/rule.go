package kernel

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"tulle/backend"
	"tulle/subnet"
)

// tables are the firewall's, by way of the iptables programs.
type tables struct {
	jumps    []backend.Jump
	programs [2]*iptables.IPTables // by Family; nil where no jump needs it
}

// lockWait is how many seconds iptables waits for another one to finish.
const lockWait = 5

func openTables(jumps []backend.Jump) (*tables, error) {
	t := &tables{jumps: jumps}
	for _, j := range jumps {
		if t.programs[j.Family] != nil {
			continue
		}
		proto, program := iptables.ProtocolIPv4, "iptables"
		if j.Family == subnet.IPv6 {
			proto, program = iptables.ProtocolIPv6, "ip6tables"
		}
		ipt, err := iptables.New(iptables.IPFamily(proto), iptables.Timeout(lockWait))
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("%s is not installed, and masquerading and forwarding of pods need it; install the package iptables: %w", program, err)
		}
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", program, err)
		}
		t.programs[j.Family] = ipt
	}
	return t, nil
}

// rules lists a chain's rules without "-A CHAIN ", and whether it exists.
func (t *tables) rules(f subnet.Family, table, chain string) ([]string, bool, error) {
	lines, err := t.programs[f].List(table, chain)
	if err != nil {
		// Programs and versions say in different words that there is no such
		// chain, 1.8.9 for one that it is "incompatible": so ask for the list.
		chains, listErr := t.programs[f].ListChains(table)
		if listErr != nil || slices.Contains(chains, chain) {
			return nil, false, err
		}
		return nil, false, nil
	}
	var rules []string
	for _, line := range lines {
		if rule, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			rules = append(rules, rule)
		}
	}
	return rules, true, nil
}

func (t *tables) dump(have backend.State) error {
	for _, j := range t.jumps {
		rules, ok, err := t.rules(j.Family, j.Table, j.To)
		if err != nil {
			return err
		}
		if !ok {
			continue // and what is not there is not jumped to
		}
		have.Add(backend.Chain{Family: j.Family, Table: j.Table, Name: j.To, Rules: strings.Join(rules, "\n")})
		if rules, _, err = t.rules(j.Family, j.Table, j.From); err != nil {
			return err
		}
		at := slices.Index(rules, jumpRule(j))
		if at < 0 {
			continue
		}
		j.Unreached = slices.ContainsFunc(rules[:at], dropsAll)
		have.Add(j)
	}
	return nil
}

func jumpRule(j backend.Jump) string { return "-j " + j.To }

// dropsAll reports whether no packet goes past a rule.
func dropsAll(rule string) bool {
	return rule == "-j DROP" || rule == "-j REJECT" || strings.HasPrefix(rule, "-j REJECT --reject-with ")
}

func (t *tables) change(c backend.Change) error {
	switch e := c.Want.(type) {
	case backend.Chain:
		return t.setChain(e, c.Have == nil)
	case backend.Jump:
		return t.setJump(e)
	}
	switch e := c.Have.(type) {
	case backend.Chain:
		return t.programs[e.Family].ClearAndDeleteChain(e.Table, e.Name)
	case backend.Jump:
		return t.programs[e.Family].Delete(e.Table, e.From, strings.Fields(jumpRule(e))...)
	}
	return nil
}

// setChain writes the new rules before the old ones and then deletes those, so
// that at no moment a packet finds fewer rules than before.
func (t *tables) setChain(c backend.Chain, create bool) error {
	ipt := t.programs[c.Family]
	if create {
		if err := ipt.NewChain(c.Table, c.Name); err != nil {
			return err
		}
	}
	old, _, err := t.rules(c.Family, c.Table, c.Name)
	if err != nil {
		return err
	}
	rules := strings.Split(c.Rules, "\n")
	for i, rule := range rules {
		if err := ipt.Insert(c.Table, c.Name, i+1, strings.Fields(rule)...); err != nil {
			return err
		}
	}
	for i := len(old); i > 0; i-- {
		if err := ipt.DeleteById(c.Table, c.Name, len(rules)+i); err != nil {
			return err
		}
	}
	return nil
}

// setJump puts the jump first, where no rule can drop packets before, and
// removes the one that stood later.
func (t *tables) setJump(j backend.Jump) error {
	ipt, rule := t.programs[j.Family], jumpRule(j)
	if err := ipt.Insert(j.Table, j.From, 1, strings.Fields(rule)...); err != nil {
		return err
	}
	rules, _, err := t.rules(j.Family, j.Table, j.From)
	if err != nil {
		return err
	}
	for i := len(rules); i > 1; i-- {
		if rules[i-1] != rule {
			continue
		}
		if err := ipt.DeleteById(j.Table, j.From, i); err != nil {
			return err
		}
	}
	return nil
}
