package ruleset

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// nftItem is one object of `nft -j list ruleset`; see libnftables-json(5).
type nftItem struct {
	Chain *struct {
		Family, Table, Name, Type, Hook, Policy string
		Prio                                    int
		Dev                                     json.RawMessage // one, several, or left out by older versions
	}
	Rule *struct {
		Family, Table, Chain string
		Handle               int
		Expr                 []map[string]json.RawMessage
	}
	Set *nftSet
	Map *nftSet
}

type nftSet struct {
	Family, Table, Name string
	Elem                []json.RawMessage
}

// NFT reads what `nft -j list ruleset` prints, without the tables that skip
// chooses by family and name: those that another tool reads better.
func NFT(text []byte, skip func(family, table string) bool) ([]Chain, error) {
	var all struct{ Nftables []nftItem }
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read nftables' rules: %w", err)
	}
	sets := map[string][]json.RawMessage{}
	for _, item := range all.Nftables {
		for _, s := range []*nftSet{item.Set, item.Map} {
			if s != nil {
				sets[s.Family+" "+s.Table+" "+s.Name] = s.Elem
			}
		}
	}
	var chains []Chain
	places := map[[3]string]int{} // of chains, by family, table and name
	for _, item := range all.Nftables {
		if c := item.Chain; c != nil && !skip(c.Family, c.Table) {
			hook := Hook(c.Hook)
			if c.Family == "bridge" {
				hook = "bridge " + hook
			}
			places[[3]string{c.Family, c.Table, c.Name}] = len(chains)
			chains = append(chains, Chain{
				Tool: "nft", Family: c.Family, Table: c.Table, Name: c.Name, Hook: hook, Devs: names(c.Dev), NAT: c.Type == "nat", Priority: c.Prio, Policy: Verdict(c.Policy),
			})
		}
		in := item.Rule
		if in == nil || skip(in.Family, in.Table) {
			continue
		}
		i, there := places[[3]string{in.Family, in.Table, in.Chain}]
		if !there {
			continue
		}
		n := nftReader{sets, in.Family + " " + in.Table + " "}
		r := n.rule(in.Expr)
		r.Delete = fmt.Sprintf("nft delete rule %s %s %s handle %d", in.Family, in.Table, in.Chain, in.Handle)
		for i := range r.cases {
			r.cases[i].Delete = fmt.Sprintf("nft --handle list chain %s %s %s, and replace the rule of handle %d by one without that verdict", in.Family, in.Table, in.Chain, in.Handle)
		}
		chains[i].Rules = append(chains[i].Rules, r)
	}
	return chains, nil
}

// names are one name, or several.
func names(raw json.RawMessage) []string {
	var one string
	var list []string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(raw, &list)
	return list
}

// device finds the devices of a chain at the hook ingress.
var device = regexp.MustCompile(`(?m)^\s*type \w+ hook ingress devices? (?:= )?(\{[^}]*\}|\S+)`)

// Devices reads those of a chain from what `nft list chain` prints, for versions
// of nft(8) that leave them out of JSON.
func Devices(text string) []string {
	m := device.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	return strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune(`{}", `, r) })
}

// nftReader reads the rules of one table.
type nftReader struct {
	sets map[string][]json.RawMessage
	name string // of the table, before the name of a set
}

func (n nftReader) rule(statements []map[string]json.RawMessage) Rule {
	r := Rule{Verdict: Continue}
	var words []string
	for _, s := range statements {
		for kind, body := range s {
			word := n.statement(&r, kind, body)
			if word != "" {
				words = append(words, word)
			}
		}
	}
	r.Text = strings.Join(words, " ")
	for i := range r.cases {
		r.cases[i].Text = r.Text
	}
	return r
}

// statement notes what one statement asks or does, and returns its text.
func (n nftReader) statement(r *Rule, kind string, body json.RawMessage) string {
	switch kind {
	case "match":
		var m struct {
			Op          string
			Left, Right json.RawMessage
		}
		if json.Unmarshal(body, &m) != nil {
			break
		}
		test := n.test(m.Left, m.Right)
		if m.Op == "!=" {
			was := test
			test = func(p Packet) Answer { return was(p).not() }
		} else if m.Op != "==" && m.Op != "in" {
			test = perhaps
		}
		r.conds = append(r.conds, presumed(m.Left), test)
		op := m.Op + " "
		if m.Op == "==" || m.Op == "in" {
			op = ""
		}
		return show(m.Left) + " " + op + show(m.Right)
	case "accept", "drop", "return":
		r.Verdict = Verdict(kind)
		return kind
	case "reject":
		r.Verdict = Reject
		return kind
	case "jump", "goto":
		r.Verdict, r.Target = verdictOf(kind, body)
		return kind + " " + r.Target
	case "vmap":
		var v struct{ Key, Data json.RawMessage }
		if json.Unmarshal(body, &v) != nil {
			break
		}
		r.cases = []Rule{}
		r.conds = append(r.conds, presumed(v.Key))
		for _, e := range n.elements(v.Data) {
			var pair []json.RawMessage
			if json.Unmarshal(e, &pair) != nil || len(pair) != 2 {
				continue
			}
			var verdict map[string]json.RawMessage
			if json.Unmarshal(pair[1], &verdict) != nil {
				continue
			}
			for kind, body := range verdict {
				one := Rule{conds: []cond{n.test(v.Key, pair[0])}}
				one.Verdict, one.Target = verdictOf(kind, body)
				r.cases = append(r.cases, one)
			}
		}
		return show(v.Key) + " vmap " + n.showMap(v.Data)
	case "dnat", "snat", "redirect":
		var to struct{ Addr, Port json.RawMessage }
		_ = json.Unmarshal(body, &to)
		r.Verdict, r.Target = Verdict(kind), show(to.Addr)
		if kind == "redirect" {
			r.Verdict, r.Target = DNAT, "this host"
		}
		if len(to.Port) > 0 {
			r.Target += ":" + show(to.Port)
		}
		return kind + " to " + r.Target
	case "masquerade":
		r.Verdict = Masquerade
		return kind
	case "counter", "log", "comment":
		return ""
	case "mangle":
		return kind
	}
	// What is not known may match or not.
	r.conds = append(r.conds, perhaps)
	return kind
}

func verdictOf(kind string, body json.RawMessage) (Verdict, string) {
	var to struct{ Target string }
	_ = json.Unmarshal(body, &to)
	return Verdict(kind), to.Target
}
