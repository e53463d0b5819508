package status

import (
	"fmt"
	"io"
	"strings"

	"tulle/internal/table"
)

// Write writes who reaches whom: as a matrix where it fits a terminal, and else
// what is wrong alone.
func (m Mesh) Write(w io.Writer, colour bool) error {
	pairs, known := len(m.Nodes)*(len(m.Nodes)-1), 0
	for _, from := range m.Nodes {
		known += len(from.Peers)
	}
	if len(m.Nodes) == 1 {
		_, err := fmt.Fprintf(w, "%s is the only node\n", m.Nodes[0].name())
		return err
	}
	fmt.Fprintf(w, "%d nodes, %d of %d ways between them looked at\n", len(m.Nodes), known, pairs)
	if t := m.matrix(); t.Fits() {
		fmt.Fprint(w, "\nround trips in ms from row to column, and packets lost in %\n\n")
		if err := t.Write(w, colour); err != nil {
			return err
		}
	}
	faults := m.Faults()
	if len(faults) > 0 {
		fmt.Fprintln(w)
	}
	for _, fault := range faults {
		fmt.Fprintln(w, strings.Join(table.Wrap(fault, table.Width), "\n"))
	}
	return nil
}

func (m Mesh) matrix() table.Table {
	t := table.Table{Head: []string{""}}
	for _, to := range m.Nodes {
		t.Head = append(t.Head, to.name())
	}
	for _, from := range m.Nodes {
		row := []table.Cell{{Text: from.name()}}
		for _, to := range m.Nodes {
			reach, ok := from.Peers[to.Subnet]
			switch {
			case from.Subnet == to.Subnet:
				row = append(row, table.Cell{Text: "-"})
			case !ok:
				row = append(row, table.Cell{Text: "?", Style: table.Warn})
			default:
				row = append(row, reach.cell())
			}
		}
		t.AddCells(row...)
	}
	return t
}

// Faults says what is wrong, a line each: on the way from one node to another,
// and of nodes that nothing is known from.
func (m Mesh) Faults() []string {
	names := map[string]string{}
	for _, n := range m.Nodes {
		names[n.Subnet] = n.name()
	}
	var faults []string
	for _, from := range m.Nodes {
		if from.Error != "" {
			faults = append(faults, fmt.Sprintf("%s can't be asked: %s", from.name(), from.Error))
		}
		for _, to := range m.Nodes {
			if r, ok := from.Peers[to.Subnet]; ok && !r.Good() {
				faults = append(faults, fmt.Sprintf("%s to %s: %s: %s", from.name(), to.name(), r.Verdict, r.Meaning))
			}
		}
	}
	return faults
}

func (r Reached) name() string {
	if r.Node == "" {
		return r.Subnet
	}
	return r.Node
}

// Good reports whether pods can count on the way.
func (r Reach) Good() bool { return r.Verdict == "good" }

// cell is the round-trip time, or what is wrong.
func (r Reach) cell() table.Cell {
	switch {
	case !r.Good():
		return table.Cell{Text: r.Verdict, Style: table.Bad}
	case r.Lost > 0:
		return table.Cell{Text: fmt.Sprintf("%.2f %s", 1000*r.RTT, r.loss()), Style: table.Warn}
	}
	return table.Cell{Text: fmt.Sprintf("%.2f", 1000*r.RTT), Style: table.Good}
}

func (r Reach) loss() string {
	if r.Sent == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(r.Lost)/float64(r.Sent))
}
