package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.uber.org/zap"

	"tulle/backend"
	"tulle/subnet"
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

// tell tells of one thing what set tells of all: what is wrong with it now, or nil.
func (t *trouble) tell(what string, err error) {
	before, was := t.now[what]
	switch {
	case err != nil && brief(err) != before:
		t.log.Warn(t.begin, zap.String(t.field, what), zap.String("error", brief(err)))
		if t.now == nil {
			t.now = map[string]string{}
		}
		t.now[what] = brief(err)
	case err == nil && was:
		t.log.Info(t.end, zap.String(t.field, what))
		delete(t.now, what)
	}
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

// logChanges logs what was put right, one by one where it is little and as a
// count of each kind where it is much. A few rows that follow from a change of
// the leases are not told of: the change is, by logPeers.
func logChanges(log *zap.Logger, p backend.Pass) {
	const most = 12
	counts := map[backend.Kind]int{}
	for _, c := range p.Changes {
		counts[c.Key().Kind]++
		switch {
		case len(p.Changes) > most:
		case p.Why == backend.WhyUpdate:
			log.Debug("kernel changed", zap.Stringer("change", c), zap.String("why", p.Why))
		default:
			log.Info("kernel changed", zap.Stringer("change", c), zap.String("why", p.Why))
		}
	}
	if len(p.Changes) > most {
		fields := []zap.Field{zap.Int("changes", len(p.Changes)), zap.String("why", p.Why), zap.Duration("took", p.Took)}
		for _, kind := range slices.Sorted(maps.Keys(counts)) {
			fields = append(fields, zap.Int(kind.String(), counts[kind]))
		}
		log.Info("kernel changed", fields...)
	}
}

// logPeers logs what peers came, went and changed, one by one where they are few.
// Those left out are told of elsewhere.
func logPeers(log *zap.Logger, now, before subnet.Leases, self string, p *backend.Plan) {
	gone, come := map[string]subnet.Record{}, map[string]subnet.Record{}
	now.Difference(before, func(r subnet.Record) { gone[r.Key()] = r }, func(r subnet.Record) { come[r.Key()] = r })
	other := func(key string, _ subnet.Record) bool { return key == self || p.Faults()[key] != nil }
	maps.DeleteFunc(gone, other)
	maps.DeleteFunc(come, other)
	const most = 12
	if len(gone)+len(come) > 2*most {
		log.Info("peers changed", zap.Int("peers", now.Len()-1), zap.Int("before", max(0, before.Len()-1)))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(gone)) {
		r := gone[key]
		if _, changed := come[key]; changed {
			continue
		}
		if r.Awaited() {
			log.Info("subnet no longer reserved for a node that has not come yet", zap.Stringer("subnet", r))
			continue
		}
		log.Info("peer gone", zap.Stringer("subnet", r))
	}
	for _, key := range slices.Sorted(maps.Keys(come)) {
		r, was := come[key], gone[key]
		switch {
		case p.Awaited()[key]:
			log.Info("subnet reserved for a node that has not come yet", zap.Stringer("subnet", r))
		case was.Lease == subnet.Lease{}, was.Awaited():
			log.Info("peer came", zap.Stringer("subnet", r), zap.Stringers("addresses", valid(r.Addrs)))
		case was.Lease != r.Lease:
			log.Info("peer changed", zap.Stringer("subnet", r), zap.Stringers("addresses", valid(r.Addrs)), zap.Strings("data", r.Data[:]))
		}
	}
}

func valid(addrs [2]netip.Addr) []netip.Addr {
	return slices.DeleteFunc(addrs[:], func(a netip.Addr) bool { return !a.IsValid() })
}
