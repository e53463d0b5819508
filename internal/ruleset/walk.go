package ruleset

// walk is one packet in one base chain.
type walk struct {
	all    Ruleset
	path   *Path
	packet *Packet
}

// ends are the ways in which rules that may match may have ended a packet's way
// through a chain.
type ends struct{ pass, drop, back bool }

func (e *ends) add(v Verdict) {
	switch {
	case v == Return:
		e.back = true
	case v.Drops():
		e.drop = true
	case v != "":
		e.pass = true
	}
}

// deepest is how many jumps may follow one another, as the kernel has it.
const deepest = 16

// chain follows the rules of a chain. It returns the verdict that ends the way
// through the base chain, or none if the chain's end is reached, and how the way
// may have ended before. sure is whether the packet comes to the chain.
func (w walk) chain(c Chain, sure Answer, depth int) (Verdict, ends) {
	var before ends
	for _, r := range c.Rules {
		rules := []Rule{r}
		if r.cases != nil {
			rules = r.cases
		}
		for _, one := range rules {
			matches := one.matches(*w.packet)
			if r.cases != nil {
				matches = min(matches, r.matches(*w.packet))
			}
			if matches == No || one.Verdict == Continue {
				continue
			}
			here := sure
			if before != (ends{}) {
				here = Maybe
			}
			if end, left := w.rule(c, one, matches, here, depth, &before); left {
				return end, before
			}
		}
	}
	return "", before
}

// rule does what a rule says that matches, or may. It returns a verdict if the
// packet, once it is here, is no longer in the chain; otherwise it notes what
// may have become of it.
func (w walk) rule(c Chain, r Rule, matches, here Answer, depth int, before *ends) (end Verdict, left bool) {
	sure := min(matches, here)
	step := Step{
		Tool: c.Tool, Table: c.Table, Chain: c.Name, Rule: r.Text, Verdict: r.Verdict, Target: r.Target, Sure: sure == Yes, Delete: r.Delete,
	}
	w.path.Steps = append(w.path.Steps, step)
	switch r.Verdict {
	case Mark:
		if step.Sure {
			w.packet.Mark = w.packet.Mark&^r.keep ^ r.set
		}
		return "", false
	case Jump, Goto:
		next, ok := w.all.find(c, r.Target)
		if !ok || depth == deepest {
			return "", false
		}
		end, within := w.chain(next, sure, depth+1)
		before.pass, before.drop = before.pass || within.pass, before.drop || within.drop
		switch {
		case matches == Yes && end != "" && !within.back:
			return end, true
		case matches == Yes && end == "" && r.Verdict == Goto:
			return "", true
		}
		before.add(end)
		before.back = before.back || r.Verdict == Goto
		return "", false
	}
	if matches != Yes {
		before.add(r.Verdict)
		return "", false
	}
	if step.Sure && (r.Verdict == DNAT || r.Verdict == SNAT || r.Verdict == Masquerade) {
		w.path.Translated = &step
	}
	if r.Verdict == Return {
		return "", true
	}
	return r.Verdict, true
}
