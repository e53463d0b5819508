package main

import (
	"flag"
	"testing"

	"tulle/internal/manual"
)

var manualDir = flag.String("manual", "", "write the manual page and the completions below this `folder`")

// TestManual makes what packages carry besides the program.
func TestManual(t *testing.T) {
	if *manualDir == "" {
		*manualDir = t.TempDir()
	}
	if err := manual.Write(command(), 8, *manualDir); err != nil {
		t.Error(err)
	}
}
