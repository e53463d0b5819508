package subnet

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Prefixes is a set of prefixes as text, in order and separated by blanks, so that
// two are the same if they are ==.
type Prefixes string

// NewPrefixes is the set of some, which are masked and may be of both families.
func NewPrefixes(list ...netip.Prefix) Prefixes {
	list = slices.Clone(list)
	slices.SortFunc(list, netip.Prefix.Compare)
	var words []string
	for _, p := range slices.Compact(list) {
		words = append(words, p.String())
	}
	return Prefixes(strings.Join(words, " "))
}

// All is each of the prefixes, IPv4 first.
func (p Prefixes) All() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for word := range strings.FieldsSeq(string(p)) {
			if prefix, err := netip.ParsePrefix(word); err == nil && !yield(prefix) {
				return
			}
		}
	}
}

// parsePrefixes reads a list of prefixes and tells what is wrong with each.
func parsePrefixes(f *fields, key string) Prefixes {
	var list []netip.Prefix
	for _, text := range field(f, key, []string(nil)) {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			f.fault(key, "%q is not a prefix such as \"192.168.0.0/16\"", text)
		case p.Addr().Is4In6():
			f.fault(key, "%s is an IPv4 prefix in the form of IPv6; write it as \"192.168.0.0/16\"", p)
		case p != p.Masked():
			f.fault(key, "%s has bits set behind its prefix length; write %s", p, p.Masked())
		case p.Bits() == 0:
			f.fault(key, "%s is every destination; give --ip-masq=false to tulled instead", p)
		default:
			list = append(list, p)
		}
	}
	return NewPrefixes(list...)
}
