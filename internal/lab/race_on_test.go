//go:build race

package lab

// raceFlags build the programs like this test.
var raceFlags = []string{"-race"}
