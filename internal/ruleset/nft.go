package ruleset

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
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
			test = func(Packet) Answer { return Maybe }
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
	r.conds = append(r.conds, func(Packet) Answer { return Maybe })
	return kind
}

func verdictOf(kind string, body json.RawMessage) (Verdict, string) {
	var to struct{ Target string }
	_ = json.Unmarshal(body, &to)
	return Verdict(kind), to.Target
}

// elements are those of a set that stands in the rule or is named.
func (n nftReader) elements(data json.RawMessage) []json.RawMessage {
	var name string
	if json.Unmarshal(data, &name) == nil {
		return n.sets[n.name+strings.TrimPrefix(name, "@")]
	}
	var set struct{ Set []json.RawMessage }
	_ = json.Unmarshal(data, &set)
	return set.Set
}

// test is the condition that what left names is right, or is in it.
func (n nftReader) test(left, right json.RawMessage) cond {
	var name string
	if json.Unmarshal(right, &name) == nil && strings.HasPrefix(name, "@") {
		return anyOf(n, left, n.elements(right))
	}
	if set := (struct{ Set []json.RawMessage }{}); json.Unmarshal(right, &set) == nil && set.Set != nil {
		return anyOf(n, left, set.Set)
	}
	if list := []json.RawMessage(nil); json.Unmarshal(right, &list) == nil && list != nil {
		return anyOf(n, left, list)
	}
	if e := (struct{ Elem struct{ Val json.RawMessage } }{}); json.Unmarshal(right, &e) == nil && e.Elem.Val != nil {
		return n.test(left, e.Elem.Val)
	}
	if c := (struct{ Concat []json.RawMessage }{}); json.Unmarshal(left, &c) == nil && c.Concat != nil {
		d := struct{ Concat []json.RawMessage }{}
		if json.Unmarshal(right, &d) != nil || len(d.Concat) != len(c.Concat) {
			return func(Packet) Answer { return Maybe }
		}
		var each []cond
		for i := range c.Concat {
			each = append(each, n.test(c.Concat[i], d.Concat[i]))
		}
		return func(p Packet) Answer {
			all := Yes
			for _, one := range each {
				all = min(all, one(p))
			}
			return all
		}
	}
	return single(left, right)
}

func anyOf(n nftReader, left json.RawMessage, elements []json.RawMessage) cond {
	var conds []cond
	for _, e := range elements {
		conds = append(conds, n.test(left, e))
	}
	return func(p Packet) Answer {
		best := No
		for _, c := range conds {
			best = max(best, c(p))
		}
		return best
	}
}

// single is the condition that a field has one value, a prefix or a range.
func single(left, right json.RawMessage) cond {
	var l struct {
		Payload struct{ Protocol, Field string }
		Meta    struct{ Key string }
		CT      struct{ Key string }
		And     []json.RawMessage `json:"&"`
	}
	if json.Unmarshal(left, &l) != nil {
		return func(Packet) Answer { return Maybe }
	}
	text := show(right)
	switch l.Payload.Protocol + " " + l.Payload.Field {
	case "ip protocol", "ip6 nexthdr":
		return func(p Packet) Answer { return sameProto(p.Proto, text) }
	case "ether type":
		return func(p Packet) Answer { return answer(text == "ip" && p.Dst.Is4() || text == "ip6" && p.Dst.Is6()) }
	}
	switch field := l.Payload.Protocol + " " + l.Payload.Field; {
	case strings.HasSuffix(field, " saddr") && strings.HasPrefix(field, "ip"):
		return addresses(text, func(p Packet) netip.Addr { return p.Src })
	case strings.HasSuffix(field, " daddr") && strings.HasPrefix(field, "ip"):
		return addresses(text, func(p Packet) netip.Addr { return p.Dst })
	case l.Payload.Field == "dport":
		proto, port := l.Payload.Protocol, ports(strings.ReplaceAll(text, "-", ":"))
		return func(p Packet) Answer {
			if proto == "th" {
				return port(p)
			}
			return min(sameProto(p.Proto, proto), port(p))
		}
	}
	switch l.Meta.Key {
	case "iifname", "iif":
		return func(p Packet) Answer { return answer(named(p.In, text, "*")) }
	case "oifname", "oif":
		return func(p Packet) Answer { return answer(named(p.Out, text, "*")) }
	case "l4proto":
		return func(p Packet) Answer { return sameProto(p.Proto, text) }
	case "nfproto", "protocol":
		return func(p Packet) Answer {
			return answer(p.Dst.Is4() == (text == "ipv4" || text == "ip" || text == "2"))
		}
	case "mark":
		return mark(0xffffffff, text)
	}
	switch {
	case l.CT.Key == "state":
		return func(Packet) Answer { return answer(text == "new") }
	case l.CT.Key == "status" && text == "dnat":
		return func(p Packet) Answer { return answer(p.Translated) }
	}
	if len(l.And) == 2 {
		var m struct{ Meta struct{ Key string } }
		mask, err := strconv.ParseUint(string(l.And[1]), 10, 32)
		if json.Unmarshal(l.And[0], &m) == nil && m.Meta.Key == "mark" && err == nil {
			return mark(uint32(mask), text)
		}
	}
	return func(Packet) Answer { return Maybe }
}

// presumed is the condition that a packet has the header which an expression
// reads. nft(8) leaves it out where the expression says it.
func presumed(expr json.RawMessage) cond {
	var e struct {
		Payload struct{ Protocol string }
		And     []json.RawMessage `json:"&"`
		Concat  []json.RawMessage
	}
	_ = json.Unmarshal(expr, &e)
	var all []cond
	for _, part := range slices.Concat(e.And, e.Concat) {
		all = append(all, presumed(part))
	}
	return func(p Packet) Answer {
		least := Yes
		for _, one := range all {
			least = min(least, one(p))
		}
		switch proto := e.Payload.Protocol; proto {
		case "", "ether", "vlan", "th":
		case "ip":
			return answer(p.Dst.Is4())
		case "ip6":
			return answer(p.Dst.Is6())
		case "icmp", "icmpv6":
			if p.Dst.Is4() != (proto == "icmp") {
				return No
			}
			return sameProto(p.Proto, "icmp")
		default:
			return sameProto(p.Proto, proto)
		}
		return least
	}
}

func mark(mask uint32, text string) cond {
	value, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return func(Packet) Answer { return Maybe }
	}
	return func(p Packet) Answer { return answer(p.Mark&mask == uint32(value)) }
}

// addresses is the condition that an address is that of a text, or in its prefix
// or range.
func addresses(text string, of func(Packet) netip.Addr) cond {
	if p, ok := parsePrefix(text); ok {
		return func(packet Packet) Answer { return answer(p.Contains(of(packet))) }
	}
	low, high, isRange := strings.Cut(text, "-")
	from, err1 := netip.ParseAddr(low)
	to, err2 := netip.ParseAddr(high)
	if !isRange || err1 != nil || err2 != nil {
		return func(Packet) Answer { return Maybe }
	}
	return func(p Packet) Answer {
		a := of(p)
		return answer(a.BitLen() == from.BitLen() && !a.Less(from) && !to.Less(a))
	}
}

// show is an expression as nft(8) writes it, as far as that is short.
func show(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && list != nil {
		return shown(list, ", ")
	}
	var e struct {
		Payload *struct{ Protocol, Field string }
		Meta    *struct{ Key string }
		CT      *struct{ Key string }
		Prefix  *struct {
			Addr string
			Len  int
		}
		Range  []json.RawMessage
		Set    []json.RawMessage
		Concat []json.RawMessage
		And    []json.RawMessage `json:"&"`
		Elem   *struct{ Val json.RawMessage }
	}
	if json.Unmarshal(raw, &e) != nil {
		return string(raw) // a number
	}
	switch {
	case e.Payload != nil && e.Payload.Field != "":
		return e.Payload.Protocol + " " + e.Payload.Field
	case e.Meta != nil:
		if slices.Contains([]string{"iifname", "oifname", "iif", "oif"}, e.Meta.Key) {
			return e.Meta.Key
		}
		return "meta " + e.Meta.Key
	case e.CT != nil:
		return "ct " + e.CT.Key
	case e.Prefix != nil:
		return fmt.Sprintf("%s/%d", e.Prefix.Addr, e.Prefix.Len)
	case len(e.Range) == 2:
		return show(e.Range[0]) + "-" + show(e.Range[1])
	case e.Set != nil:
		const most = 4
		if len(e.Set) > most {
			return fmt.Sprintf("{ %s, and %d more }", shown(e.Set[:most], ", "), len(e.Set)-most)
		}
		return "{ " + shown(e.Set, ", ") + " }"
	case e.Concat != nil:
		return shown(e.Concat, " . ")
	case len(e.And) == 2:
		return shown(e.And, " & ")
	case e.Elem != nil:
		return show(e.Elem.Val)
	}
	return "..."
}

// showMap is a map of verdicts.
func (n nftReader) showMap(data json.RawMessage) string {
	if name := show(data); strings.HasPrefix(name, "@") {
		return name
	}
	var texts []string
	for _, e := range n.elements(data) {
		var pair []json.RawMessage
		var verdict map[string]json.RawMessage
		if json.Unmarshal(e, &pair) != nil || len(pair) != 2 || json.Unmarshal(pair[1], &verdict) != nil {
			continue
		}
		for kind, body := range verdict {
			word, target := verdictOf(kind, body)
			texts = append(texts, strings.TrimSpace(show(pair[0])+" : "+string(word)+" "+target))
		}
	}
	return "{ " + strings.Join(texts, ", ") + " }"
}

func shown(list []json.RawMessage, between string) string {
	texts := make([]string, len(list))
	for i, one := range list {
		texts[i] = show(one)
	}
	return strings.Join(texts, between)
}
