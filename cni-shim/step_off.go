//go:build !killsteps

package main

// step marks a point of ADD or DEL at which a test may kill the plugin. Only
// the build for that test, with the tag killsteps, does anything here.
func step(string) {}
