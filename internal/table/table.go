// Package table writes tables for people: columns that fit a terminal of 80
// characters, and colour where somebody looks.
package table

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Width is what tables are made to fit in.
const Width = 80

// Style is what a cell says of itself, shown as a colour.
type Style int

// The styles.
const (
	Plain Style = iota
	Head
	Good
	Warn
	Bad
)

var escapes = [...]string{Plain: "", Head: "\x1b[1m", Good: "\x1b[32m", Warn: "\x1b[33m", Bad: "\x1b[31m"}

const plain = "\x1b[0m"

// Cell is a text of one line or more, with a style.
type Cell struct {
	Text  string
	Style Style
}

// Table is rows of cells below a head, which may be empty.
type Table struct {
	Head []string
	Rows [][]Cell
}

// Add adds a row of texts.
func (t *Table) Add(texts ...string) {
	row := make([]Cell, len(texts))
	for i, text := range texts {
		row[i].Text = text
	}
	t.Rows = append(t.Rows, row)
}

// AddCells adds a row.
func (t *Table) AddCells(cells ...Cell) { t.Rows = append(t.Rows, cells) }

// gap is between two columns.
const gap = 2

// narrow is the least width of a last column that is wrapped; what does not fit
// then stands out.
const narrow = 24

// Fits reports whether the table is no wider than Width without wrapping.
func (t Table) Fits() bool {
	widths := map[int]int{}
	for i, text := range t.Head {
		widths[i] = utf8.RuneCountInString(text)
	}
	for _, row := range t.Rows {
		for i, cell := range row {
			for line := range strings.SplitSeq(cell.Text, "\n") {
				widths[i] = max(widths[i], utf8.RuneCountInString(line))
			}
		}
	}
	total := -gap
	for _, width := range widths {
		total += width + gap
	}
	return total <= Width
}

// Write writes the table. What is too long in the last column goes on in the
// next line; names and addresses in the others are never cut.
func (t Table) Write(w io.Writer, colour bool) error {
	rows := t.Rows
	if len(t.Head) > 0 {
		head := make([]Cell, len(t.Head))
		for i, text := range t.Head {
			head[i] = Cell{text, Head}
		}
		rows = append([][]Cell{head}, rows...)
	}
	columns := 0
	for _, row := range rows {
		columns = max(columns, len(row))
	}
	widths := make([]int, columns)
	for _, row := range rows {
		for i, cell := range row {
			if i == columns-1 {
				break // it is wrapped
			}
			for line := range strings.SplitSeq(cell.Text, "\n") {
				widths[i] = max(widths[i], utf8.RuneCountInString(line))
			}
		}
	}
	left := Width
	for _, width := range widths[:max(0, columns-1)] {
		left -= width + gap
	}
	left = max(left, narrow)

	var b strings.Builder
	for _, row := range rows {
		writeRow(&b, row, widths, left, colour)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRow(b *strings.Builder, row []Cell, widths []int, left int, colour bool) {
	cells, height := make([][]string, len(row)), 1
	for i, cell := range row {
		if cells[i] = strings.Split(cell.Text, "\n"); i == len(widths)-1 {
			cells[i] = Wrap(cell.Text, left)
		}
		height = max(height, len(cells[i]))
	}
	for y := range height {
		pending := 0 // blanks that are written only before a text
		for i, lines := range cells {
			text := ""
			if y < len(lines) {
				text = lines[y]
			}
			if text != "" {
				b.WriteString(strings.Repeat(" ", pending))
				pending = 0
				b.WriteString(paint(text, row[i].Style, colour))
			}
			pending += widths[i] - utf8.RuneCountInString(text) + gap
		}
		b.WriteByte('\n')
	}
}

func paint(text string, s Style, colour bool) string {
	if !colour || escapes[s] == "" {
		return text
	}
	return escapes[s] + text + plain
}

// Wrap breaks the lines of a text between words, so that they fit a width. A word
// that is longer has a line of its own. What follows begins where the line began.
func Wrap(text string, width int) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		rest := line
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		for utf8.RuneCountInString(rest) > width {
			runes := []rune(rest)
			at := strings.LastIndex(string(runes[:width+1]), " ")
			if at <= len(indent) {
				if at = strings.Index(rest[len(indent):], " ") + len(indent); at < len(indent) {
					break
				}
			}
			lines = append(lines, rest[:at])
			rest = indent + strings.TrimLeft(rest[at:], " ")
		}
		lines = append(lines, rest)
	}
	return lines
}

// Colour reports whether what is written to w may be coloured: it is a terminal,
// and its user has not set NO_COLOR.
func Colour(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
