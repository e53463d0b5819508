package backend

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"tulle/subnet"
)

// Underlay is this node's own device towards the other nodes.
type Underlay struct {
	Dev      string
	Addrs    [2]netip.Addr  // by Family; at least one is valid
	Prefixes []netip.Prefix // on-link prefixes of the device
	MTU      int
}

// Addr is the address that packets between nodes come from: IPv4 where there
// is one.
func (u Underlay) Addr() netip.Addr {
	if u.Addrs[subnet.IPv4].IsValid() {
		return u.Addrs[subnet.IPv4]
	}
	return u.Addrs[subnet.IPv6]
}

// Equal reports whether the two are the same in all.
func (u Underlay) Equal(v Underlay) bool {
	return u.Dev == v.Dev && u.Addrs == v.Addrs && u.MTU == v.MTU && slices.Equal(u.Prefixes, v.Prefixes)
}

// OnLink reports whether an address is reached without a gateway.
func (u Underlay) OnLink(a netip.Addr) bool {
	return slices.ContainsFunc(u.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Candidate is a device that could be the Underlay: it is up, is not the
// loopback device, and has an address with global scope.
type Candidate struct {
	Dev    string
	Addrs  []netip.Prefix // in the kernel's order
	MTU    int
	Metric int // of its default route; NoDefault if it has none
}

// NoDefault is the Metric of a Candidate without a default route.
const NoDefault = -1

func (c Candidate) String() string {
	addrs := make([]string, len(c.Addrs))
	for i, a := range c.Addrs {
		addrs[i] = a.Addr().String()
	}
	text := c.Dev + " (" + strings.Join(addrs, ", ")
	if c.Metric != NoDefault {
		text += ", default route"
	}
	return text + ")"
}

// Hop is how the kernel reaches an address: by a device and from an address.
type Hop struct {
	Dev string
	Src netip.Addr
}

// Wish says which Underlay the operator wants, most important first. The zero
// Wish leaves the choice to ChooseUnderlay.
type Wish struct {
	Ifaces   []string       // names or addresses, in order of preference
	Regex    *regexp.Regexp // for a name or an address
	CanReach Hop            // how the address given is reached
	Etcd     Hop            // how etcd is reached
}

// ChooseUnderlay chooses among the candidates, and says why. Where nothing is
// wished, it takes the device that reaches etcd, or else the one with the
// default route. It refuses to guess between two.
func ChooseUnderlay(candidates []Candidate, w Wish) (u Underlay, why string, err error) {
	there := "; there are: " + join(candidates)
	if len(candidates) == 0 {
		there = "; no device but the loopback device is up and has an address"
	}
	switch {
	case len(w.Ifaces) > 0:
		for _, wished := range w.Ifaces {
			for _, c := range candidates {
				if c.Dev == wished {
					return c.underlay(netip.Addr{}), "--iface=" + wished, nil
				}
				if a, ok := c.addr(wished); ok {
					return c.underlay(a), "--iface=" + wished, nil
				}
			}
		}
		return u, "", fmt.Errorf("--iface: no device has the name or the address %s%s", strings.Join(w.Ifaces, " or "), there)

	case w.Regex != nil:
		found := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool { return !c.matches(w.Regex) })
		switch len(found) {
		case 0:
			return u, "", fmt.Errorf("--iface-regex: nothing matches %q%s", w.Regex, there)
		case 1:
			return found[0].underlay(found[0].match(w.Regex)), fmt.Sprintf("--iface-regex=%s", w.Regex), nil
		}
		return u, "", fmt.Errorf("--iface-regex: %q matches %s; choose one with --iface", w.Regex, join(found))

	case w.CanReach.Dev != "":
		for _, c := range candidates {
			if c.Dev == w.CanReach.Dev {
				return c.underlay(w.CanReach.Src), "--iface-can-reach", nil
			}
		}
		return u, "", fmt.Errorf("--iface-can-reach: that address is reached by %s, which has no address for other nodes%s", w.CanReach.Dev, there)
	}

	for _, c := range candidates {
		if c.Dev == w.Etcd.Dev {
			return c.underlay(w.Etcd.Src), "it reaches etcd", nil
		}
	}
	var best []Candidate
	for _, c := range candidates {
		switch {
		case c.Metric == NoDefault:
		case len(best) == 0 || c.Metric < best[0].Metric:
			best = []Candidate{c}
		case c.Metric == best[0].Metric:
			best = append(best, c)
		}
	}
	switch len(best) {
	case 0:
		return u, "", errors.New("no device has a default route; choose one with --iface" + there)
	case 1:
		return best[0].underlay(netip.Addr{}), "it has the default route", nil
	}
	return u, "", fmt.Errorf("these devices have equally good default routes: %s; choose one with --iface", join(best))
}

// underlay makes a candidate the underlay, with the given address if it is
// valid, and the first of each other family.
func (c Candidate) underlay(a netip.Addr) Underlay {
	u := Underlay{Dev: c.Dev, MTU: c.MTU}
	if a.IsValid() {
		u.Addrs[subnet.FamilyOf(a)] = a
	}
	for _, p := range c.Addrs {
		if f := subnet.FamilyOf(p.Addr()); !u.Addrs[f].IsValid() {
			u.Addrs[f] = p.Addr()
		}
		u.Prefixes = append(u.Prefixes, p.Masked())
	}
	return u
}

func (c Candidate) addr(text string) (netip.Addr, bool) {
	for _, p := range c.Addrs {
		if p.Addr().String() == text {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func (c Candidate) matches(r *regexp.Regexp) bool {
	return r.MatchString(c.Dev) || c.match(r).IsValid()
}

// match is the first address that matches, if any.
func (c Candidate) match(r *regexp.Regexp) netip.Addr {
	for _, p := range c.Addrs {
		if r.MatchString(p.Addr().String()) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

func join(candidates []Candidate) string {
	texts := make([]string, len(candidates))
	for i, c := range candidates {
		texts[i] = c.String()
	}
	return strings.Join(texts, ", ")
}
