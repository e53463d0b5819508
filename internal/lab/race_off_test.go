//go:build !race

package lab

var raceFlags []string
