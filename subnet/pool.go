package subnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
)

// Pool is the part of a Network in one family: a prefix and how it is cut into
// subnets. The zero Pool means that the Network does not use the family.
type Pool struct {
	Prefix netip.Prefix // all pods of the cluster
	Len    int          // prefix length of one node's subnet
	Min    netip.Prefix // first subnet that may be leased
	Max    netip.Prefix // last subnet that may be leased
}

// IsValid reports whether the Network uses this family.
func (p Pool) IsValid() bool { return p.Prefix.IsValid() }

// Contains reports whether s is a subnet that this pool could lease: of its
// length and between Min and Max.
func (p Pool) Contains(s netip.Prefix) bool {
	return p.IsValid() && s.Bits() == p.Len && s == s.Masked() && p.Prefix.Contains(s.Addr()) &&
		s.Addr().Compare(p.Min.Addr()) >= 0 && s.Addr().Compare(p.Max.Addr()) <= 0
}

// Size is the number of subnets between Min and Max, at most math.MaxUint64.
func (p Pool) Size() uint64 {
	hi, lo := minus(p.Max.Addr(), p.Min.Addr())
	hi, lo = shiftRight(hi, lo, uint(p.Prefix.Addr().BitLen()-p.Len))
	if hi != 0 || lo == math.MaxUint64 {
		return math.MaxUint64
	}
	return lo + 1
}

// At is the i-th subnet after Min, for 0 <= i < Size.
func (p Pool) At(i uint64) netip.Prefix {
	hi, lo := shiftLeft(0, i, uint(p.Prefix.Addr().BitLen()-p.Len))
	return netip.PrefixFrom(plus(p.Min.Addr(), hi, lo), p.Len)
}

// last is the last subnet of the given length inside prefix.
func last(prefix netip.Prefix, length int) netip.Prefix {
	size := prefix.Addr().BitLen()
	hi, lo := shiftLeft(0, 1, uint(size-prefix.Bits()))
	stepHi, stepLo := shiftLeft(0, 1, uint(size-length))
	lo, borrow := bits.Sub64(lo, stepLo, 0)
	hi, _ = bits.Sub64(hi, stepHi, borrow)
	return netip.PrefixFrom(plus(prefix.Masked().Addr(), hi, lo), length)
}

// notForPods is loopback, multicast and, of IPv6, what belongs to one link.
var notForPods = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// check completes the pool's defaults and returns all that is wrong with it,
// with the names of the configuration's fields.
func (p *Pool) check(names poolFields) error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	size := p.Prefix.Addr().BitLen()
	longest, usual, smallest := 30, 24, 28
	if size == 128 {
		longest, usual, smallest = 126, 64, 124
	}
	if p.Prefix != p.Prefix.Masked() {
		fault(names.prefix, "%s has bits set behind its prefix length; write %s", p.Prefix, p.Prefix.Masked())
		p.Prefix = p.Prefix.Masked()
	}
	for _, other := range notForPods {
		if p.Prefix.Overlaps(other) {
			fault(names.prefix, "%s overlaps %s, whose addresses pods can't have", p.Prefix, other)
			break
		}
	}
	switch {
	case p.Len != 0 && p.Len > longest:
		fault(names.length, "%d is too long: a subnet needs addresses for its bridge and pods; at most %d", p.Len, longest)
	case p.Len != 0 && p.Len < p.Prefix.Bits()+2:
		fault(names.length, "%d is too short for %s: at least %d, so that there are subnets to share out", p.Len, p.Prefix, p.Prefix.Bits()+2)
	case p.Len == 0 && p.Prefix.Bits() > smallest:
		fault(names.prefix, "%s is too small to share out: /%d or larger", p.Prefix, smallest)
	case p.Len == 0 && p.Prefix.Bits() <= usual-2:
		p.Len = usual
	case p.Len == 0:
		p.Len = p.Prefix.Bits() + 2
	}
	if len(faults) > 0 {
		return errors.Join(faults...) // Min and Max mean nothing without a good prefix and length
	}

	bound := func(field string, given netip.Addr, otherwise netip.Prefix) netip.Prefix {
		if !given.IsValid() {
			return otherwise
		}
		s := netip.PrefixFrom(given, p.Len)
		switch {
		case !p.Prefix.Contains(given):
			fault(field, "%s is outside of %s", given, p.Prefix)
		case s != s.Masked():
			fault(field, "%s is not the first address of a /%d; write %s", given, p.Len, s.Masked().Addr())
		}
		return s
	}
	// The first subnet is left out by default: its first address is that of the
	// whole Network, which some software takes for a broadcast address.
	step := netip.PrefixFrom(p.Prefix.Addr(), p.Len)
	hi, lo := shiftLeft(0, 1, uint(size-p.Len))
	p.Min = bound(names.min, p.Min.Addr(), netip.PrefixFrom(plus(step.Addr(), hi, lo), p.Len))
	p.Max = bound(names.max, p.Max.Addr(), last(p.Prefix, p.Len))
	if len(faults) == 0 && p.Max.Addr().Less(p.Min.Addr()) {
		fault(names.max, "%s is before %s %s", p.Max.Addr(), names.min, p.Min.Addr())
	}
	return errors.Join(faults...)
}

func halves(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

func plus(a netip.Addr, hi, lo uint64) netip.Addr {
	ahi, alo := halves(a)
	lo, carry := bits.Add64(alo, lo, 0)
	hi, _ = bits.Add64(ahi, hi, carry)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	if a.Is4() {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

func minus(a, b netip.Addr) (hi, lo uint64) {
	ahi, alo := halves(a)
	bhi, blo := halves(b)
	lo, borrow := bits.Sub64(alo, blo, 0)
	hi, _ = bits.Sub64(ahi, bhi, borrow)
	return hi, lo
}

func shiftLeft(hi, lo uint64, n uint) (uint64, uint64) {
	if n >= 64 {
		return lo << (n - 64), 0
	}
	return hi<<n | lo>>(64-n), lo << n
}

func shiftRight(hi, lo uint64, n uint) (uint64, uint64) {
	if n >= 64 {
		return 0, hi >> (n - 64)
	}
	return hi >> n, lo>>n | hi<<(64-n)
}
