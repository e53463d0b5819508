package ruleset

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// builtin are the chains that iptables hooks into the kernel itself.
var builtin = map[string]Hook{"PREROUTING": Prerouting, "INPUT": Input, "FORWARD": Forward, "OUTPUT": Output, "POSTROUTING": Postrouting}

// priorities of the tables of iptables, as linux/netfilter_ipv4.h has them.
var priorities = map[string]int{"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}

// IPTables reads what iptables-save(8), or the program of another family or make,
// prints. Lines that mean nothing are left out.
func IPTables(tool, text string) []Chain {
	family := "ip"
	if strings.HasPrefix(tool, "ip6") {
		family = "ip6"
	}
	var chains []Chain
	table := ""
	places := map[[2]string]int{} // of chains, by table and name: kube-proxy makes thousands
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			name, rest, _ := strings.Cut(line[1:], " ")
			policy, _, _ := strings.Cut(rest, " ")
			c := Chain{Tool: tool, Family: family, Table: table, Name: name}
			if hook, ok := builtin[name]; ok && policy != "-" {
				c.Hook, c.NAT, c.Priority, c.Policy = hook, table == "nat", priorities[table], Verdict(strings.ToLower(policy))
				if c.NAT && (hook == Postrouting || hook == Input) {
					c.Priority = 100 // NF_IP_PRI_NAT_SRC
				}
			}
			places[[2]string{table, name}] = len(chains)
			chains = append(chains, c)
		case strings.HasPrefix(line, "-A "):
			words := split(line)
			if i, there := places[[2]string{table, words[1]}]; there {
				r := parseRule(words[2:])
				r.Text = line
				r.Delete = tool + " -t " + table + " -D" + line[2:]
				chains[i].Rules = append(chains[i].Rules, r)
			}
		}
	}
	return chains
}

// split is a line's words; what stands in double quotes is one.
func split(line string) []string {
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}

// silent are the words of matches that decide nothing by themselves.
var silent = []string{"comment", "tcp", "udp", "mark", "conntrack", "state", "multiport", "addrtype"}

// parseRule reads the words behind the chain's name.
func parseRule(words []string) Rule {
	r := Rule{Verdict: Continue}
	negate := false
	next := func(i *int) string {
		if *i+1 < len(words) {
			*i++
			return words[*i]
		}
		return ""
	}
	add := func(c cond) {
		if negate {
			was := c
			c = func(p Packet) Answer { return was(p).not() }
		}
		negate = false
		r.conds = append(r.conds, c)
	}
	for i := 0; i < len(words); i++ {
		switch word := words[i]; word {
		case "!":
			negate = true
		case "-s", "-d":
			prefixes, source := parsePrefixes(next(&i)), word == "-s"
			add(func(p Packet) Answer {
				if source {
					return prefixes.has(p.Src)
				}
				return prefixes.has(p.Dst)
			})
		case "-i":
			dev := next(&i)
			add(func(p Packet) Answer { return answer(named(p.In, dev, "+")) })
		case "-o":
			dev := next(&i)
			add(func(p Packet) Answer { return answer(named(p.Out, dev, "+")) })
		case "-p":
			proto := next(&i)
			add(func(p Packet) Answer { return sameProto(p.Proto, proto) })
		case "--dport", "--dports":
			add(ports(next(&i)))
		case "--mark":
			value, mask := parseMark(next(&i))
			add(func(p Packet) Answer { return answer(p.Mark&mask == value) })
		case "--ctstate", "--state":
			states := strings.Split(next(&i), ",")
			add(func(p Packet) Answer {
				return answer(slices.Contains(states, "NEW") || slices.Contains(states, "DNAT") && p.Translated)
			})
		case "--comment":
			next(&i)
		case "-m":
			if !slices.Contains(silent, next(&i)) {
				add(perhaps)
			}
		case "-j", "-g":
			r.target(word, next(&i), words[i+1:])
			return r
		default:
			// An option of a match that is not followed here, or its value.
			add(perhaps)
		}
	}
	return r
}

// target notes what a rule does.
func (r *Rule) target(how, name string, options []string) {
	option := func(names ...string) string {
		for i, o := range options {
			if slices.Contains(names, o) && i+1 < len(options) {
				return options[i+1]
			}
		}
		return ""
	}
	switch name {
	case "ACCEPT":
		r.Verdict = Accept
	case "DROP":
		r.Verdict = Drop
	case "REJECT":
		r.Verdict = Reject
	case "RETURN":
		r.Verdict = Return
	case "DNAT":
		r.Verdict, r.Target = DNAT, option("--to-destination")
	case "REDIRECT":
		r.Verdict, r.Target = DNAT, "this host"
	case "SNAT":
		r.Verdict, r.Target = SNAT, option("--to-source")
	case "MASQUERADE":
		r.Verdict = Masquerade
	case "MARK":
		r.Verdict = Mark
		if text := option("--set-xmark", "--set-mark"); text != "" {
			r.set, r.keep = parseMark(text)
		} else if text := option("--or-mark"); text != "" {
			r.set, _ = parseMark(text)
			r.keep = r.set
		} else if text := option("--xor-mark"); text != "" {
			r.set, _ = parseMark(text)
		}
	default:
		if strings.ToUpper(name) == name && !strings.ContainsAny(name, "-_") && knownTargets[name] {
			return // such as LOG, which lets the packet go on
		}
		r.Verdict, r.Target = Jump, name
		if how == "-g" {
			r.Verdict = Goto
		}
	}
}

// knownTargets let a packet go on in the same chain.
var knownTargets = map[string]bool{
	"LOG": true, "NFLOG": true, "CONNMARK": true, "TCPMSS": true, "CHECKSUM": true, "CT": true, "TRACE": true, "NOTRACK": true, "CLASSIFY": true,
	"DSCP": true, "TOS": true, "SET": true, "AUDIT": true, "SECMARK": true, "CONNSECMARK": true, "TTL": true, "HL": true,
}

// prefixes are those of a rule.
type prefixes []netip.Prefix

func parsePrefixes(text string) prefixes {
	var list prefixes
	for one := range strings.SplitSeq(text, ",") {
		if p, ok := parsePrefix(one); ok {
			list = append(list, p)
		}
	}
	return list
}

func parsePrefix(text string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

func (l prefixes) has(a netip.Addr) Answer {
	if len(l) == 0 {
		return Maybe // it was not understood
	}
	return answer(slices.ContainsFunc(l, func(p netip.Prefix) bool { return p.Contains(a) }))
}

func sameProto(have, want string) Answer {
	switch want {
	case "all", "0":
		return Yes
	case "6":
		want = "tcp"
	case "17":
		want = "udp"
	case "1", "58", "ipv6-icmp", "icmpv6":
		want = "icmp"
	}
	if have == "" {
		return Maybe
	}
	return answer(have == want)
}

// ports is the condition on the port that a packet goes to.
func ports(text string) cond {
	return func(p Packet) Answer {
		if p.DPort == 0 {
			return Maybe
		}
		for one := range strings.SplitSeq(text, ",") {
			low, high, isRange := strings.Cut(one, ":")
			if !isRange {
				high = low
			}
			from, err1 := strconv.ParseUint(low, 10, 16)
			to, err2 := strconv.ParseUint(high, 10, 16)
			if err1 != nil || err2 != nil {
				return Maybe
			}
			if uint64(p.DPort) >= from && uint64(p.DPort) <= to {
				return Yes
			}
		}
		return No
	}
}

func parseMark(text string) (value, mask uint32) {
	low, high, masked := strings.Cut(text, "/")
	v, _ := strconv.ParseUint(low, 0, 32)
	m := uint64(0xffffffff)
	if masked {
		m, _ = strconv.ParseUint(high, 0, 32)
	}
	return uint32(v), uint32(m)
}
