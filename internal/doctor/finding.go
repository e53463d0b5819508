package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"tulle/internal/table"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // pods are not reached, or will soon not be
	Warning Severity = "warning" // it works, and something will come of it
)

// Finding is one thing that is wrong.
type Finding struct {
	ID       string   `json:"id"` // listed in Documentation/troubleshooting.md
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Mend     string   `json:"mend"`
}

// severities are those of all findings that there can be.
var severities = map[string]Severity{
	"tulled-silent":    Error,
	"tulled-waits":     Error,
	"tulled-disabled":  Warning,
	"kernel-differs":   Error,
	"peer-left-out":    Error,
	"address-of-peer":  Error,
	"key-no-lease":     Warning,
	"trouble":          Error,
	"subnet-file":      Error,
	"etcd-silent":      Error,
	"etcd-refuses":     Error,
	"etcd-read-only":   Error,
	"etcd-no-network":  Error,
	"etcd-lease":       Error,
	"etcd-certificate": Warning,
	"clock":            Warning,
	"kernel-vxlan":     Error,
	"kernel-nexthop":   Warning,
	"kernel-nftables":  Warning,
	"iptables":         Error,
	"conntrack":        Error,
	"forwarding":       Error,
	"bridge-netfilter": Warning,
	"underlay":         Error,
	"underlay-mtu":     Error,
	"underlay-other":   Error,
	"address-twice":    Error,
	"way":              Error,
	"way-back":         Error,
	"rule-drops":       Error,
	"rules-unread":     Warning,
	"address-of-pods":  Error,
	"peer-silent":      Error,
	"tunnel-blocked":   Error,
	"mtu-hole":         Error,
	"checksum":         Error,
	"bridge-down":      Error,
	"bridge-address":   Error,
	"pod-port":         Error,
	"pod-mtu":          Warning,
	"other-network":    Warning,
	"vxlan-clash":      Error,
	"cni-none":         Error,
	"cni-other":        Error,
	"cni-broken":       Error,
	"cni-plugin":       Error,
	"disk":             Error,
}

// Examine says all that is wrong, in the order of what should be mended first.
func Examine(f Facts) []Finding {
	e := examination{Facts: f, found: []Finding{}}
	e.host()
	e.daemon()
	e.etcd()
	e.underlay()
	e.network()
	e.pods()
	e.peers()
	return e.found
}

// examination gathers findings.
type examination struct {
	Facts
	found []Finding
}

// add adds a finding; mend is the command, and what it is for.
func (e *examination) add(id, mend, format string, args ...any) {
	f := Finding{ID: id, Severity: severities[id], Text: fmt.Sprintf(format, args...), Mend: mend}
	if f.Severity == "" {
		panic("no severity for the finding " + id)
	}
	if !slices.Contains(e.found, f) {
		e.found = append(e.found, f)
	}
}

// few is the first of many texts, and how many more there are.
func few(texts []string) string {
	const most = 3
	if len(texts) > most {
		return fmt.Sprintf("%s, and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
	}
	return strings.Join(texts, ", ")
}

// Write writes findings for people.
func Write(w io.Writer, findings []Finding, colour bool) error {
	if len(findings) == 0 {
		t := table.Table{}
		t.AddCells(table.Cell{Text: "nothing is wrong", Style: table.Good})
		return t.Write(w, colour)
	}
	var t table.Table
	for _, f := range findings {
		style := table.Bad
		if f.Severity == Warning {
			style = table.Warn
		}
		t.AddCells(table.Cell{Text: string(f.Severity), Style: style}, table.Cell{Text: f.ID + ": " + f.Text})
		t.AddCells(table.Cell{Text: "  mend"}, table.Cell{Text: f.Mend})
	}
	return t.Write(w, colour)
}
