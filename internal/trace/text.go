package trace

import (
	"fmt"
	"io"
	"strconv"

	"tulle/internal/table"
)

// Write writes the way as a table.
func (t Trace) Write(w io.Writer, colour bool) error {
	tab := table.Table{Head: []string{"STEP", "MTU", "WHAT"}}
	for _, h := range t.Hops {
		mtu := ""
		if h.MTU != 0 {
			mtu = strconv.Itoa(h.MTU)
		}
		tab.AddCells(table.Cell{Text: h.Step}, table.Cell{Text: mtu}, table.Cell{Text: h.Text})
		if h.Fault != "" {
			tab.AddCells(table.Cell{}, table.Cell{}, table.Cell{Text: "wrong: " + h.Fault, Style: table.Bad})
		}
	}
	style := table.Good
	if t.Lost() {
		style = table.Bad
	}
	tab.AddCells(table.Cell{Text: "ends"}, table.Cell{}, table.Cell{Text: t.End.Text, Style: style})
	if t.End.Mend != "" {
		tab.AddCells(table.Cell{Text: "mend"}, table.Cell{}, table.Cell{Text: t.End.Mend})
	}
	if err := tab.Write(w, colour); err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	return nil
}
