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

// programs are those of iptables for each Family.
type programs struct {
	names [2]string
	of    [2]*iptables.IPTables // nil: not used yet
	// loaded says that nothing is asked for before its table is there, as the
	// programs of legacy iptables would make it, and that they may be missing.
	loaded bool
}

var _ book = (*programs)(nil)

// lockWait is how many seconds iptables waits for another one to finish.
const lockWait = 5

// Names of programs by Family: the one that the host uses, and the older kind, which
// may be there besides.
var (
	programNames = [2]string{subnet.IPv4: "iptables", subnet.IPv6: "ip6tables"}
	legacyNames  = [2]string{subnet.IPv4: "iptables-legacy", subnet.IPv6: "ip6tables-legacy"}
)

// openAll makes sure that there is a program for each jump.
func (p *programs) openAll(jumps []backend.Jump) error {
	for _, j := range jumps {
		if err := p.open(j.Family); err != nil {
			return err
		}
	}
	return nil
}

func (p *programs) open(f subnet.Family) error {
	if p.of[f] != nil {
		return nil
	}
	name := p.names[f]
	proto := [2]iptables.Protocol{subnet.IPv4: iptables.ProtocolIPv4, subnet.IPv6: iptables.ProtocolIPv6}[f]
	ipt, err := iptables.New(iptables.IPFamily(proto), iptables.Timeout(lockWait), iptables.Path(name))
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed, and --firewall=iptables needs it; install the package iptables, or use --firewall=nftables: %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	p.of[f] = ipt
	return nil
}

// list implements book.
func (p *programs) list(c backend.Chain, _ backend.Rules) ([]string, bool, error) {
	if p.loaded {
		if !legacyLoaded(c.Family, c.Table) {
			return nil, false, nil
		}
		if err := p.open(c.Family); errors.Is(err, exec.ErrNotFound) {
			return nil, false, nil // Firewalls tells of it
		} else if err != nil {
			return nil, false, err
		}
	}
	ipt := p.of[c.Family]
	lines, err := ipt.List(c.Table, c.Name)
	if err != nil {
		// Programs and versions say in different words that there is no such
		// chain, 1.8.9 for one that it is "incompatible": so ask for the list.
		chains, listErr := ipt.ListChains(c.Table)
		if listErr != nil || slices.Contains(chains, c.Name) {
			return nil, false, err
		}
		return nil, false, nil
	}
	var rules []string
	for _, line := range lines {
		if rule, ok := strings.CutPrefix(line, "-A "+c.Name+" "); ok {
			rules = append(rules, rule)
		}
	}
	return rules, true, nil
}

func (p *programs) deleteChain(c backend.Chain) error {
	return p.of[c.Family].ClearAndDeleteChain(c.Table, c.Name)
}

// deleteJump implements book.
func (p *programs) deleteJump(j backend.Jump) error {
	commands, err := p.withoutJump(j)
	if err != nil || commands == "" {
		return err
	}
	return p.restore(j.Family, j.Table, commands)
}

// setChain implements book: it writes the new rules before the old ones and then
// deletes those.
func (p *programs) setChain(c backend.Chain, create bool) error {
	ipt := p.of[c.Family]
	if create {
		if err := ipt.NewChain(c.Table, c.Name); err != nil {
			return err
		}
	}
	old, _, err := p.list(c, "")
	if err != nil {
		return err
	}
	rules := 0
	for rule := range c.Rules.Lines() {
		rules++
		if err := ipt.Insert(c.Table, c.Name, rules, strings.Fields(rule)...); err != nil {
			return err
		}
	}
	for i := len(old); i > 0; i-- {
		if err := ipt.DeleteById(c.Table, c.Name, rules+i); err != nil {
			return err
		}
	}
	return nil
}

// setJump implements book, in one transaction. Others write to the same chain, so
// a jump that stands later is deleted by what it is: by its number, it might be
// another's rule by then.
func (p *programs) setJump(j backend.Jump) error {
	commands, err := p.withoutJump(j)
	if err != nil {
		return err
	}
	return p.restore(j.Family, j.Table, commands+"-I "+j.From+" "+jumpRule(j)+"\n")
}

// withoutJump is the commands that delete a jump as often as it is there, which is
// more than once where somebody saved rules and loaded them again.
func (p *programs) withoutJump(j backend.Jump) (string, error) {
	rules, _, err := p.list(backend.Chain{Family: j.Family, Table: j.Table, Name: j.From}, "")
	var commands strings.Builder
	for _, rule := range rules {
		if rule == jumpRule(j) {
			fmt.Fprintf(&commands, "-D %s %s\n", j.From, rule)
		}
	}
	return commands.String(), err
}

// restore changes a table by a list of commands, of which the kernel takes all or
// none.
func (p *programs) restore(f subnet.Family, table, commands string) error {
	program := p.names[f] + "-restore"
	cmd := exec.Command(program, "--noflush", fmt.Sprintf("--wait=%d", lockWait))
	cmd.Stdin = strings.NewReader("*" + table + "\n" + commands + "COMMIT\n")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", program, err, strings.TrimSpace(string(text)))
	}
	return nil
}

// legacyLoaded reports whether legacy iptables has a table.
func legacyLoaded(f subnet.Family, table string) bool {
	names := &tableNames{path: legacyFamilies[f].names}
	defer names.close()
	return names.has(table)
}
