package lab

import (
	"fmt"

	"tulle/subnet"
)

// Families is a set of address families, written 4, 6 or 46. It is a value of
// package pflag. The empty set stands for IPv4 alone.
type Families [2]bool // by subnet.Family

// ParseFamilies reads what String wrote.
func ParseFamilies(text string) (Families, error) {
	switch text {
	case "4":
		return Families{subnet.IPv4: true}, nil
	case "6":
		return Families{subnet.IPv6: true}, nil
	case "46":
		return Families{subnet.IPv4: true, subnet.IPv6: true}, nil
	}
	return Families{}, fmt.Errorf("%q is not 4, 6 or 46", text)
}

// List is the families of the set, in order.
func (s Families) List() []subnet.Family {
	var list []subnet.Family
	for _, f := range subnet.Families {
		if s[f] || s == (Families{}) && f == subnet.IPv4 {
			list = append(list, f)
		}
	}
	return list
}

// First is IPv4 if it is in the set.
func (s Families) First() subnet.Family { return s.List()[0] }

// Both reports whether no family is missing.
func (s Families) Both() bool { return s[subnet.IPv4] && s[subnet.IPv6] }

func (s Families) String() string {
	text := ""
	for _, f := range s.List() {
		text += f.String()[len("IPv"):]
	}
	return text
}

// Set implements pflag.Value.
func (s *Families) Set(text string) (err error) {
	*s, err = ParseFamilies(text)
	return err
}

// Type implements pflag.Value.
func (s *Families) Type() string { return "families" }

// MarshalText writes what ParseFamilies reads.
func (s Families) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Families) UnmarshalText(text []byte) error { return s.Set(string(text)) }
