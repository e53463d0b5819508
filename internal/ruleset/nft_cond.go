package ruleset

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

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
		return n.among(left, n.elements(right))
	}
	if set := (struct{ Set []json.RawMessage }{}); json.Unmarshal(right, &set) == nil && set.Set != nil {
		return n.among(left, set.Set)
	}
	if list := []json.RawMessage(nil); json.Unmarshal(right, &list) == nil && list != nil {
		return n.among(left, list)
	}
	if e := (struct{ Elem struct{ Val json.RawMessage } }{}); json.Unmarshal(right, &e) == nil && e.Elem.Val != nil {
		return n.test(left, e.Elem.Val)
	}
	if c := (struct{ Concat []json.RawMessage }{}); json.Unmarshal(left, &c) == nil && c.Concat != nil {
		d := struct{ Concat []json.RawMessage }{}
		if json.Unmarshal(right, &d) != nil || len(d.Concat) != len(c.Concat) {
			return perhaps
		}
		var each []cond
		for i := range c.Concat {
			each = append(each, n.test(c.Concat[i], d.Concat[i]))
		}
		return allOf(each)
	}
	return single(left, right)
}

// among is the condition that what left names is right for one of the elements.
func (n nftReader) among(left json.RawMessage, elements []json.RawMessage) cond {
	var conds []cond
	for _, e := range elements {
		conds = append(conds, n.test(left, e))
	}
	return anyOf(conds)
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
		return perhaps
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
	return perhaps
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
	parts := allOf(all)
	return func(p Packet) Answer {
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
		return parts(p)
	}
}

func mark(mask uint32, text string) cond {
	value, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return perhaps
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
		return perhaps
	}
	return func(p Packet) Answer {
		a := of(p)
		return answer(a.BitLen() == from.BitLen() && !a.Less(from) && !to.Less(a))
	}
}
