package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tulle/internal/flags"
)

// group makes c the parent of commands. A word that is none of them is a
// mistake in the call, answered with what may be meant.
func group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.Args = isKnown
	c.SuggestionsMinimumDistance = 2
	if c.RunE == nil {
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	c.AddCommand(commands...)
	return c
}

func isKnown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("%q is no command of %s", args[0], c.CommandPath())
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	} else {
		text += fmt.Sprintf("; see %s --help", c.CommandPath())
	}
	return usageError{errors.New(text)}
}

// flagFault says what is wrong with a flag, and which may be meant.
func flagFault(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageError{fmt.Errorf("%w; see %s --help", flags.Fault(err), c.CommandPath())}
	}
	var near []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && distance(unknown.GetSpecifiedName(), f.Name) <= 2 {
			near = append(near, "--"+f.Name)
		}
	})
	if len(near) == 0 {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	}
	slices.Sort(near)
	return usageError{fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))}
}

// distance is how many letters have to be put in, taken away or replaced to make
// one word of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
