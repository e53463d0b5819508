package status

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"tulle/internal/table"
)

// Write writes what an operator wants to see at a glance.
func (n Node) Write(w io.Writer, colour bool) error {
	var t table.Table
	row := func(name string, style table.Style, format string, args ...any) {
		t.AddCells(table.Cell{Text: name}, table.Cell{Text: fmt.Sprintf(format, args...), Style: style})
	}
	row("node", table.Plain, "%s", n.Name)
	row("tulled", table.Plain, "%s, up %s", n.Version, time.Since(n.Started).Round(time.Second))
	if n.Ready {
		row("ready", table.Good, "yes")
	} else {
		row("ready", table.Bad, "no: %s", n.Phase)
	}
	connected, style := "connected", table.Plain
	if !n.Etcd.Connected {
		connected, style = "not connected", table.Bad
	}
	row("etcd", style, "%s, %s, %s at revision %d", connected, strings.Join(n.Etcd.Endpoints, " "), n.Etcd.Prefix, n.Etcd.Revision)
	if u := n.Underlay; u != nil {
		row("underlay", table.Plain, "%s, %s, MTU %d (%s)", u.Dev, u.Address, u.MTU, u.Why)
		if len(u.Others) > 0 {
			row("", table.Plain, "and not %s", strings.Join(u.Others, ", "))
		}
	}
	if l := n.Lease; l != nil {
		row("lease", table.Plain, "%s, announced at %s by %s", strings.Join(l.Subnets, " "), l.Address, l.Backend)
		device := n.Device
		if device == "" {
			device = "none, plain routes"
		}
		row("device", table.Plain, "%s, MTU %d", device, n.MTU)
	}
	if p := n.LastPass; p != nil {
		row("last pass", table.Plain, "%s ago, %s, %d changes", time.Since(p.At).Round(time.Second), p.Why, p.Changes)
		if p.Error != "" {
			row("", table.Bad, "%s", p.Error)
		}
	}
	switch {
	case n.KernelErr != "":
		row("kernel", table.Bad, "not known: %s", n.KernelErr)
	case len(n.Difference) > 0:
		row("kernel", table.Bad, "%d rows wanted, %d differ", len(n.Want), len(n.Difference))
	default:
		row("kernel", table.Plain, "%d rows wanted, 0 differ", len(n.Want))
	}
	for _, trouble := range n.Troubles {
		row("trouble", table.Bad, "%s", trouble)
	}
	programmed, awaited := n.counts()
	peers := fmt.Sprintf("%d, %d programmed", len(n.Peers)-awaited, programmed)
	if awaited > 0 {
		peers += fmt.Sprintf("; %d reserved, not there yet", awaited)
	}
	row("peers", table.Plain, "%s", peers)
	if err := t.Write(w, colour); err != nil {
		return err
	}
	if len(n.Peers) > 0 {
		fmt.Fprintln(w)
		peers := table.Table{Head: []string{"NODE", "SUBNET", "ADDRESS", "RTT", "LOST", "PROGRAMMED"}}
		for _, p := range n.Peers {
			rtt, lost := p.reach()
			peers.AddCells(table.Cell{Text: p.name()}, table.Cell{Text: strings.Join(p.Subnets, "\n")}, table.Cell{Text: p.Address}, rtt, lost, p.state())
		}
		if err := peers.Write(w, colour); err != nil {
			return err
		}
	}
	for _, p := range n.Peers {
		if p.Reach != nil && !p.Reach.Good() {
			fmt.Fprintf(w, "\n%s\n", strings.Join(table.Wrap(p.name()+" is "+p.Reach.Verdict+": "+p.Reach.Meaning, table.Width), "\n"))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(n.BadKeys)) {
		fmt.Fprintf(w, "\n%s\n", strings.Join(table.Wrap("not a lease: "+key+": "+n.BadKeys[key], table.Width), "\n"))
	}
	return nil
}

// WritePeers writes the peers with the ends of their tunnels.
func (n Node) WritePeers(w io.Writer, colour bool) error {
	t := table.Table{Head: []string{"NODE", "SUBNET", "VTEP", "MAC", "PROGRAMMED"}}
	for _, p := range n.Peers {
		addr, mac := p.Address, "-"
		if p.VTEP != nil {
			addr, mac = p.VTEP.Address, p.VTEP.MAC
		}
		t.AddCells(table.Cell{Text: p.name()}, table.Cell{Text: strings.Join(p.Subnets, "\n")}, table.Cell{Text: addr}, table.Cell{Text: mac}, p.state())
	}
	return t.Write(w, colour)
}

func (n Node) counts() (programmed, awaited int) {
	for _, p := range n.Peers {
		switch {
		case p.Programmed:
			programmed++
		case p.Awaited:
			awaited++
		}
	}
	return programmed, awaited
}

// name is the node's, which leases that flannel wrote do not tell.
func (p Peer) name() string {
	if p.Node == "" {
		return "-"
	}
	return p.Node
}

// reach is the round-trip time of packets to the peer, or what is wrong with the
// way there, and how many are lost.
func (p Peer) reach() (rtt, lost table.Cell) {
	r := p.Reach
	if r == nil {
		return table.Cell{Text: "-"}, table.Cell{Text: "-"}
	}
	rtt = table.Cell{Text: fmt.Sprintf("%.2f ms", 1000*r.RTT)}
	if !r.Good() {
		rtt = table.Cell{Text: r.Verdict, Style: table.Bad}
	}
	lost = table.Cell{Text: r.loss()}
	if r.Lost > 0 {
		lost.Style = table.Warn
	}
	return rtt, lost
}

// state says whether the kernel has all rows for the peer, or what is wrong.
func (p Peer) state() table.Cell {
	switch {
	case p.LeftOut != "":
		return table.Cell{Text: "left out: " + p.LeftOut, Style: table.Warn}
	case p.Awaited:
		return table.Cell{Text: "reserved, not there yet"}
	case p.Programmed:
		return table.Cell{Text: "yes", Style: table.Good}
	case len(p.Missing) == 0:
		return table.Cell{Text: "not known", Style: table.Bad}
	}
	return table.Cell{Text: "no, missing " + strings.Join(p.Missing, "; "), Style: table.Bad}
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
