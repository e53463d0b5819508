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
	Family   subnet.Family  // in which packets between nodes travel
	Addrs    [2]netip.Addr  // by Family; that of Family is valid
	Prefixes []netip.Prefix // on-link prefixes of the device
	MTU      int
}

// Addr is the address that packets between nodes come from.
func (u Underlay) Addr() netip.Addr { return u.Addrs[u.Family] }

// String is the device with its prefixes.
func (u Underlay) String() string {
	prefixes := make([]string, len(u.Prefixes))
	for i, p := range u.Prefixes {
		prefixes[i] = p.String()
	}
	return fmt.Sprintf("%s (%s)", u.Dev, strings.Join(prefixes, ", "))
}

// Equal reports whether the two are the same in all.
func (u Underlay) Equal(v Underlay) bool {
	return u.Dev == v.Dev && u.Family == v.Family && u.Addrs == v.Addrs && u.MTU == v.MTU && slices.Equal(u.Prefixes, v.Prefixes)
}

// OnLink reports whether an address is reached without a gateway.
func (u Underlay) OnLink(a netip.Addr) bool {
	return slices.ContainsFunc(u.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Candidate is a device that could be the Underlay: it is up, is not the
// loopback device, and has an address with global scope.
type Candidate struct {
	Dev     string
	Addrs   []netip.Prefix // the oldest of each family first
	MTU     int
	Metrics [2]int // of its default routes by Family; NoDefault if there is none
	// Advertised says that it has IPv6 addresses and follows router advertisements
	// (RFC 4861).
	Advertised bool
}

// NoDefault stands for the Metric of a default route that a Candidate has not.
const NoDefault = -1

func (c Candidate) String() string {
	addrs := make([]string, len(c.Addrs))
	for i, a := range c.Addrs {
		addrs[i] = a.Addr().String()
	}
	text := c.Dev + " (" + strings.Join(addrs, ", ")
	if c.Metrics != [2]int{NoDefault, NoDefault} {
		text += ", default route"
	}
	return text + ")"
}

// Hop is how the kernel reaches an address: by a device and from an address. An
// address of this host is reached by the loopback device, from itself.
type Hop struct {
	Dev string
	Src netip.Addr
}

// Wish says which Underlay the operator wants, most important first. The zero
// Wish leaves the choice to ChooseUnderlay.
type Wish struct {
	// Families are those in which packets may travel between nodes, the best
	// first; see subnet.Network.Underlay.
	Families []subnet.Family
	// Had is the addresses that were chosen before. They stay as long as the
	// device has them: the kernel lists a new IPv6 address before the older ones,
	// and one that a host has for a while must not move its node.
	Had [2]netip.Addr

	Ifaces   []string       // names or addresses, in order of preference
	Regex    *regexp.Regexp // for a name or an address
	CanReach Hop            // how the address given is reached
	Etcd     Hop            // how etcd is reached
	Stay     bool           // not all of the ways to etcd are known; a device that has an address of Had stays
}

// ChooseUnderlay chooses among the candidates, and says why. Where nothing is
// wished, it takes the device that reaches etcd, or else the one with the
// default route. It refuses to guess between two. A name that can't be looked up for
// a while moves no node.
func ChooseUnderlay(candidates []Candidate, w Wish) (u Underlay, why string, err error) {
	there := "; there are: " + Names(candidates)
	if len(candidates) == 0 {
		there = "; no device but the loopback device is up and has an address"
	}
	chosen := func(c Candidate, a netip.Addr, because string) (Underlay, string, error) {
		u, err := c.underlay(a, w)
		return u, because, err
	}
	switch {
	case len(w.Ifaces) > 0:
		for _, wished := range w.Ifaces {
			for _, c := range candidates {
				if c.Dev == wished {
					return chosen(c, netip.Addr{}, "--iface="+wished)
				}
				if a, ok := c.addr(wished); ok {
					return chosen(c, a, "--iface="+wished)
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
			return chosen(found[0], found[0].match(w.Regex), fmt.Sprintf("--iface-regex=%s", w.Regex))
		}
		return u, "", fmt.Errorf("--iface-regex: %q matches %s; choose one with --iface", w.Regex, Names(found))

	case w.CanReach.Dev != "":
		if c, ok := w.CanReach.of(candidates); ok {
			return chosen(c, c.had(w.CanReach.Src, w), "--iface-can-reach")
		}
		return u, "", fmt.Errorf("--iface-can-reach: that address is reached by %s, which has no address for other nodes%s", w.CanReach.Dev, there)
	}

	if c, ok := w.Etcd.of(candidates); ok && c.fits(w) {
		why := "it reaches etcd"
		if c.Dev != w.Etcd.Dev {
			why = "etcd is at its address"
		}
		return chosen(c, c.had(w.Etcd.Src, w), why)
	}
	for _, c := range candidates {
		if w.Stay && slices.ContainsFunc(w.Had[:], c.lists) && c.fits(w) {
			return chosen(c, netip.Addr{}, "it was chosen before, and nobody tells the address of etcd's name")
		}
	}
	for _, f := range w.Families {
		var best []Candidate
		for _, c := range candidates {
			switch {
			case c.Metrics[f] == NoDefault || !c.has(f):
			case len(best) == 0 || c.Metrics[f] < best[0].Metrics[f]:
				best = []Candidate{c}
			case c.Metrics[f] == best[0].Metrics[f]:
				best = append(best, c)
			}
		}
		switch len(best) {
		case 0:
			continue
		case 1:
			return chosen(best[0], netip.Addr{}, "it has the default route")
		}
		return u, "", fmt.Errorf("these devices have equally good default routes: %s; choose one with --iface", Names(best))
	}
	only := ""
	if len(w.Families) == 1 {
		only = " of " + w.Families[0].String() + ", which the network's packets between nodes travel over"
	}
	return u, "", errors.New("no device has a default route" + only + "; choose one with --iface" + there)
}

// of returns the candidate that a hop goes by, or that has the address where it
// ends if that is on this host: others reach it by that device.
func (h Hop) of(candidates []Candidate) (Candidate, bool) {
	for _, c := range candidates {
		if c.Dev == h.Dev {
			return c, true
		}
	}
	for _, c := range candidates {
		if _, ok := c.addr(h.Src.String()); ok {
			return c, true
		}
	}
	return Candidate{}, false
}

// underlay makes a candidate the underlay: with the given address if it is
// valid, and else with those that it had, or the first of each family.
func (c Candidate) underlay(a netip.Addr, w Wish) (Underlay, error) {
	u := Underlay{Dev: c.Dev, MTU: c.MTU}
	for _, had := range w.Had {
		if c.lists(had) {
			u.Addrs[subnet.FamilyOf(had)] = had
		}
	}
	if a.IsValid() {
		u.Addrs[subnet.FamilyOf(a)] = a
	}
	for _, p := range c.Addrs {
		if f := subnet.FamilyOf(p.Addr()); !u.Addrs[f].IsValid() {
			u.Addrs[f] = p.Addr()
		}
		u.Prefixes = append(u.Prefixes, p.Masked())
	}
	for _, f := range w.Families {
		if u.Addrs[f].IsValid() {
			u.Family = f
			return u, nil
		}
	}
	return Underlay{}, fmt.Errorf("%s has no %s address, which the network's packets between nodes travel over; give it one, or choose another device with --iface",
		c, w.Families[0])
}

// had is the source address by which the kernel reaches something, unless the
// candidate had another in that family, or does not list it: it may be one of
// those that privacy extensions make for a day (RFC 8981).
func (c Candidate) had(src netip.Addr, w Wish) netip.Addr {
	if !c.lists(src) || c.lists(w.Had[subnet.FamilyOf(src)]) {
		return netip.Addr{}
	}
	return src
}

func (c Candidate) lists(a netip.Addr) bool {
	return slices.ContainsFunc(c.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

func (c Candidate) has(f subnet.Family) bool {
	return slices.ContainsFunc(c.Addrs, func(p netip.Prefix) bool { return subnet.FamilyOf(p.Addr()) == f })
}

// fits reports whether the candidate has an address of a family that will do.
func (c Candidate) fits(w Wish) bool { return slices.ContainsFunc(w.Families, c.has) }

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

// Outside takes the addresses of pods from candidates, since these lead to no
// other node: our own device and the pods' bridge have no others. Of the devices
// that are none then, inside are those with a default route: hosts and pods share
// addresses there.
func Outside(candidates []Candidate, n subnet.Network) (rest, inside []Candidate) {
	for _, c := range candidates {
		was := c
		c.Addrs = slices.DeleteFunc(slices.Clone(c.Addrs), func(a netip.Prefix) bool { return n.Has(a.Addr()) })
		switch {
		case len(c.Addrs) > 0:
			rest = append(rest, c)
		case c.Metrics != [2]int{NoDefault, NoDefault}:
			inside = append(inside, was)
		}
	}
	return rest, inside
}

// Names lists candidates for messages.
func Names(candidates []Candidate) string {
	texts := make([]string, len(candidates))
	for i, c := range candidates {
		texts[i] = c.String()
	}
	return strings.Join(texts, ", ")
}
