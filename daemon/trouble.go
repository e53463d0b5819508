package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"tulle/backend"
)

// trouble is a set of faults of one kind that may last: each is logged when it
// begins or changes and when it ends, however often it is seen in between.
type trouble struct {
	log        *zap.Logger
	begin, end string // messages
	field      string // the log's field for what is at fault
	now        map[string]string
}

// set tells all faults that there are now, by what is at fault.
func (t *trouble) set(faults map[string]error) {
	for what, err := range faults {
		if text := brief(err); t.now[what] != text {
			t.log.Warn(t.begin, zap.String(t.field, what), zap.String("error", text))
		}
	}
	for what := range t.now {
		if faults[what] == nil {
			t.log.Info(t.end, zap.String(t.field, what))
		}
	}
	t.now = texts(faults)
}

func texts(faults map[string]error) map[string]string {
	all := make(map[string]string, len(faults))
	for what, err := range faults {
		all[what] = brief(err)
	}
	return all
}

// brief is an error's text with no more than a few of many joined ones.
func brief(err error) string {
	const most = 4
	lines := strings.Split(err.Error(), "\n")
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return strings.Join(lines, "; ")
}

// logChanges logs a few changes one by one and many as a count of each kind.
func logChanges(log *zap.Logger, p backend.Pass) {
	refused := map[backend.Key]bool{}
	for _, e := range joined(p.Err) {
		var c *backend.ChangeError
		if errors.As(e, &c) {
			refused[c.Change.Key()] = true
		}
	}
	const most = 12
	counts := map[backend.Kind]int{}
	for _, c := range p.Changes {
		if refused[c.Key()] {
			continue // told as an error
		}
		counts[c.Key().Kind]++
		if len(p.Changes) <= most {
			log.Info("kernel changed", zap.Stringer("change", c), zap.String("why", p.Why))
		}
	}
	if len(p.Changes) > most {
		fields := []zap.Field{zap.Int("changes", len(p.Changes)-len(refused)), zap.String("why", p.Why), zap.Duration("took", p.Took)}
		for _, kind := range slices.Sorted(maps.Keys(counts)) {
			fields = append(fields, zap.Int(kind.String(), counts[kind]))
		}
		log.Info("kernel changed", fields...)
	}
}

// joined lists the errors that were joined, or the error itself.
func joined(err error) []error {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range list.Unwrap() {
			all = append(all, joined(e)...)
		}
		return all
	}
	return []error{err}
}
