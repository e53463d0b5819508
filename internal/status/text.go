package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Write writes what an operator wants to see at a glance.
func (n Node) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("node", "%s", n.Name)
	row("tulled", "%s, up %s", n.Version, time.Since(n.Started).Round(time.Second))
	if n.Ready {
		row("ready", "yes")
	} else {
		row("ready", "no: %s", n.Phase)
	}
	connected := "connected"
	if !n.Etcd.Connected {
		connected = "not connected"
	}
	row("etcd", "%s, %s, %s at revision %d", connected, strings.Join(n.Etcd.Endpoints, " "), n.Etcd.Prefix, n.Etcd.Revision)
	if u := n.Underlay; u != nil {
		row("underlay", "%s, %s, MTU %d (%s)", u.Dev, u.Address, u.MTU, u.Why)
	}
	if l := n.Lease; l != nil {
		row("lease", "%s, announced at %s by %s", strings.Join(l.Subnets, " "), l.Address, l.Backend)
		row("device", "%s, MTU %d", n.Device, n.MTU)
	}
	if p := n.LastPass; p != nil {
		row("last pass", "%s ago, %s, %d changes", time.Since(p.At).Round(time.Second), p.Why, p.Changes)
		if p.Error != "" {
			row("", "%s", strings.ReplaceAll(p.Error, "\n", "\n\t"))
		}
	}
	if n.KernelErr != "" {
		row("kernel", "not known: %s", n.KernelErr)
	} else {
		row("kernel", "%d rows wanted, %d differ", len(n.Want), len(n.Difference))
	}
	for _, t := range n.Troubles {
		row("trouble", "%s", t)
	}
	row("peers", "%d, %d programmed", len(n.Peers), n.programmed())
	if err := t.Flush(); err != nil {
		return err
	}
	n.writePeers(w)
	for _, key := range sorted(n.BadKeys) {
		fmt.Fprintf(w, "\nnot a lease: %s: %s\n", key, n.BadKeys[key])
	}
	return nil
}

func (n Node) programmed() int {
	count := 0
	for _, p := range n.Peers {
		if p.Programmed {
			count++
		}
	}
	return count
}

func (n Node) writePeers(w io.Writer) {
	if len(n.Peers) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tSUBNET\tADDRESS\tPROGRAMMED")
	for _, p := range n.Peers {
		name, state := p.Node, "yes"
		if name == "" {
			name = "-"
		}
		switch {
		case p.LeftOut != "":
			state = "left out: " + p.LeftOut
		case !p.Programmed:
			state = "no, missing " + strings.Join(p.Missing, "; ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, strings.Join(p.Subnets, " "), p.Address, state)
	}
	t.Flush()
}

// WriteRows writes what is wanted of the kernel and marks what differs, as a
// unified diff does: "+" is wanted and not there, "-" is there and not wanted,
// and "?" is wanted while the kernel could not be read.
func (n Node) WriteRows(w io.Writer) error {
	var b strings.Builder
	if n.KernelErr != "" {
		fmt.Fprintf(&b, "# the kernel could not be read: %s\n", n.KernelErr)
	}
	have := map[string]bool{}
	missing := "+"
	if n.KernelErr != "" {
		missing = "?"
	}
	for _, row := range n.Have {
		have[row] = true
	}
	want := map[string]bool{}
	for _, row := range n.Want {
		want[row] = true
		if have[row] {
			fmt.Fprintf(&b, "  %s\n", row)
		} else {
			fmt.Fprintf(&b, "%s %s\n", missing, row)
		}
	}
	for _, row := range n.Have {
		if !want[row] {
			fmt.Fprintf(&b, "- %s\n", row)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
