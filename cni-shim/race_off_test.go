//go:build !race

package main

// The plugin under test is built as the test is.
var buildFlags []string
