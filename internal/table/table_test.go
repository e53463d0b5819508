package table

import (
	"os"
	"strings"
	"testing"
)

func text(t *testing.T, table Table, colour bool) string {
	t.Helper()
	var b strings.Builder
	if err := table.Write(&b, colour); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	t.Parallel()
	long := strings.TrimSpace(strings.Repeat("word ", 30))
	for _, tt := range []struct {
		name string
		rows [][]string
		want string
	}{
		{"columns are as wide as their widest cell", [][]string{{"a", "b", "c"}, {"longer", "d", "e"}}, "A       B  C\na       b  c\nlonger  d  e\n"},
		{"an empty cell at the end leaves no blanks", [][]string{{"a", "b", ""}}, "A  B  C\na  b\n"},
		{"a cell of two lines", [][]string{{"a", "10.244.1.0/24\nfd42::/64", "c"}}, "A  B              C\na  10.244.1.0/24  c\n   fd42::/64\n"},
		{
			"the last column goes on in the next line", [][]string{{"a", "b", long}},
			"A  B  C\na  b  " + strings.TrimSpace(strings.Repeat("word ", 15)) + "\n      " + strings.TrimSpace(strings.Repeat("word ", 15)) + "\n",
		},
		{"a word that does not fit stays whole", [][]string{{"a", "b", strings.Repeat("x", 90) + " y"}}, "A  B  C\na  b  " + strings.Repeat("x", 90) + "\n      y\n"},
		{"letters of several bytes", [][]string{{"é", "b", "c"}, {"zz", "d", "e"}}, "A   B  C\né   b  c\nzz  d  e\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := Table{Head: []string{"A", "B", "C"}}
			for _, row := range tt.rows {
				table.Add(row...)
			}
			if got := text(t, table, false); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestColour(t *testing.T) {
	table := Table{}
	table.AddCells(Cell{"good", Good}, Cell{"plain", Plain}, Cell{"bad", Bad})
	if got, want := text(t, table, true), "\x1b[32mgood\x1b[0m  plain  \x1b[31mbad\x1b[0m\n"; got != want {
		t.Errorf("with colour: %q, want %q", got, want)
	}
	if got, want := text(t, table, false), "good  plain  bad\n"; got != want {
		t.Errorf("without colour: %q, want %q", got, want)
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if Colour(file) || Colour(&strings.Builder{}) {
		t.Error("Colour says yes to a file or to a string, want only to terminals")
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if !Colour(terminal) {
		t.Error("Colour says no to a terminal")
	}
	t.Setenv("NO_COLOR", "1")
	if Colour(terminal) {
		t.Error("Colour says yes in spite of NO_COLOR")
	}
}
