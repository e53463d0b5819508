package ruleset

// Answer says whether something holds.
type Answer int

// The answers.
const (
	No Answer = iota
	Maybe
	Yes
)

// not is the answer to the opposite.
func (a Answer) not() Answer { return Yes - a }

func answer(holds bool) Answer {
	if holds {
		return Yes
	}
	return No
}

// cond is one condition of a rule.
type cond func(Packet) Answer

// perhaps is the condition of what is not known.
func perhaps(Packet) Answer { return Maybe }

// allOf holds as far as the least of the conditions does.
func allOf(conds []cond) cond {
	return func(p Packet) Answer {
		least := Yes
		for _, c := range conds {
			least = min(least, c(p))
		}
		return least
	}
}

// anyOf holds as far as the best of the conditions does.
func anyOf(conds []cond) cond {
	return func(p Packet) Answer {
		best := No
		for _, c := range conds {
			best = max(best, c(p))
		}
		return best
	}
}
