package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// fragments counts what a place did with packets that were too large.
type fragments struct{ made, joined, refused int }

func (f fragments) String() string {
	return fmt.Sprintf("%d fragments made, %d received, %d packets refused as too large", f.made, f.joined, f.refused)
}

// fragments reads the counters of the place's network.
func (p *Place) fragments() (fragments, error) {
	var f fragments
	err := p.Net(func() error {
		four, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		six, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f, err = parseFragments(string(four)); err != nil {
			return err
		}
		more := parseFragments6(string(six))
		f = fragments{f.made + more.made, f.joined + more.joined, f.refused + more.refused}
		return nil
	})
	return f, err
}

// parseFragments reads the lines "Ip:" of proc_net_snmp: names, then values.
func parseFragments(text string) (fragments, error) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != "Ip:":
			continue
		case names == nil:
			names = fields
			continue
		}
		values := map[string]int{}
		for i, name := range names[1:] {
			if i+1 < len(fields) {
				values[name], _ = strconv.Atoi(fields[i+1])
			}
		}
		return fragments{values["FragCreates"], values["ReasmReqds"], values["FragFails"]}, nil
	}
	return fragments{}, fmt.Errorf("no IP counters in %q", text)
}

// parseFragments6 reads the lines of net/snmp6: a name and a value each. A
// kernel without IPv6 has none.
func parseFragments6(text string) fragments {
	values := map[string]int{}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 {
			values[fields[0]], _ = strconv.Atoi(fields[1])
		}
	}
	return fragments{values["Ip6FragCreates"], values["Ip6ReasmReqds"], values["Ip6FragFails"]}
}
