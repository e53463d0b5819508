package backend

import "net/netip"

// prefixes is a set of prefixes that do not overlap, each with a name.
type prefixes struct {
	names   map[netip.Prefix]string
	lengths [129]int // how many there are of each length
}

func (s *prefixes) add(p netip.Prefix, name string) {
	if !p.IsValid() {
		return
	}
	if s.names == nil {
		s.names = map[netip.Prefix]string{}
	}
	s.names[p] = name
	s.lengths[p.Bits()]++
}

func (s *prefixes) remove(p netip.Prefix) {
	if _, ok := s.names[p]; ok {
		delete(s.names, p)
		s.lengths[p.Bits()]--
	}
}

// overlap finds one that contains p or is contained in it. Subnets have few
// different lengths, nearly always one, so this is a look-up or two.
func (s *prefixes) overlap(p netip.Prefix) (name string, ok bool) {
	if !p.IsValid() {
		return "", false
	}
	for length, count := range s.lengths[:p.Bits()+1] {
		if count == 0 {
			continue
		}
		if name, ok = s.names[netip.PrefixFrom(p.Addr(), length).Masked()]; ok {
			return name, true
		}
	}
	for _, count := range s.lengths[p.Bits()+1:] {
		if count == 0 {
			continue
		}
		for other, n := range s.names {
			if p.Overlaps(other) && (!ok || n < name) { // of several always the same, so that it is told once
				name, ok = n, true
			}
		}
		break
	}
	return name, ok
}
