package ruleset

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

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
