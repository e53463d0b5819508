package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// networkFlags are the fields of a network configuration as flags. Each stands
// in the configuration as it is given: what is wrong with it is told in one
// place for flags and files.
type networkFlags struct {
	file   string
	fields map[string]*string // by flag
}

// nonMasquerade is the field that is a list.
const nonMasquerade = "NonMasquerade"

// fieldFlags are the flags and the fields that they set.
var fieldFlags = []struct{ flag, field, usage string }{
	{"network", "Network", "IPv4 `prefix` to share out, such as 10.244.0.0/16"},
	{"subnet-len", "SubnetLen", "prefix `length` of one host's subnet (default 24)"},
	{"subnet-min", "SubnetMin", "first subnet to lease, by its first `address`"},
	{"subnet-max", "SubnetMax", "last subnet to lease, by its first `address`"},
	{"ipv6-network", "IPv6Network", "IPv6 `prefix` to share out, such as fd42::/48"},
	{"ipv6-subnet-len", "IPv6SubnetLen", "prefix `length` of one host's IPv6 subnet (default 64)"},
	{"ipv6-subnet-min", "IPv6SubnetMin", "first IPv6 subnet to lease, by its first `address`"},
	{"ipv6-subnet-max", "IPv6SubnetMax", "last IPv6 subnet to lease, by its first `address`"},
	{"backend", "Backend.Type", "`way` from host to host: vxlan, or host-gw for plain routes (default vxlan)"},
	{"non-masquerade", nonMasquerade, "`prefixes` outside of the pods' network that see a pod's own address, separated by commas"},
	{"vni", "Backend.VNI", "VXLAN network `identifier` (default 1)"},
	{"port", "Backend.Port", "UDP `port` of VXLAN (default 8472)"},
	{"mtu", "Backend.MTU", "largest `packet` between hosts (default that of their devices)"},
	{"ipv6-underlay", "Backend.IPv6Underlay", "`true` for packets between hosts over IPv6, whatever else the hosts have"},
	{"direct-routing", "Backend.DirectRouting", "`true` for plain routes between hosts on one link"},
}

func (f *networkFlags) register(fs *pflag.FlagSet) {
	f.fields = map[string]*string{}
	for _, ff := range fieldFlags {
		f.fields[ff.flag] = fs.String(ff.flag, "", ff.usage)
	}
	fs.StringVar(&f.file, "file", "", "read the configuration from a JSON `file`, - for standard input")
}

// text is the configuration as JSON.
func (f *networkFlags) text(cmd *cobra.Command) ([]byte, error) {
	top, backend := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	given := 0
	for _, ff := range fieldFlags {
		if !cmd.Flags().Changed(ff.flag) {
			continue
		}
		given++
		into, field := top, ff.field
		if name, ok := strings.CutPrefix(ff.field, "Backend."); ok {
			into, field = backend, name
		}
		if into[field] = value(*f.fields[ff.flag]); field == nonMasquerade {
			into[field] = stringList(*f.fields[ff.flag])
		}
	}
	switch {
	case f.file != "" && given > 0:
		return nil, errors.New("give the configuration in a file or by flags, not both")
	case f.file == "-":
		f.file = "/dev/stdin"
	case f.file == "" && given == 0:
		return nil, errors.New("nothing to set; for example: tullectl network set --network 10.244.0.0/16")
	}
	if f.file != "" {
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		return text, nil
	}
	if top["Network"] == nil && top["IPv6Network"] != nil {
		top["EnableIPv4"] = value("false")
	}
	if top["IPv6Network"] != nil {
		top["EnableIPv6"] = value("true")
	}
	if len(backend) > 0 {
		text, err := json.Marshal(backend)
		if err != nil {
			return nil, err
		}
		top["Backend"] = text
	}
	return json.Marshal(top)
}

// stringList is a flag's text in JSON, of which each part between commas is a string.
func stringList(text string) json.RawMessage {
	parts := []json.RawMessage{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, quote(part))
		}
	}
	all, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings
	}
	return all
}

// value is a flag's text in JSON: a number or a boolean where it is one, and
// else a string.
func value(text string) json.RawMessage {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		switch v.(type) {
		case float64, bool:
			return json.RawMessage(text)
		}
	}
	return quote(text)
}

func quote(text string) json.RawMessage {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	return quoted
}
