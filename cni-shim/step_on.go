//go:build killsteps

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// step kills the process with SIGKILL if TULLE_KILL_AT names this point.
func step(name string) {
	if os.Getenv("TULLE_KILL_AT") == name {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}
