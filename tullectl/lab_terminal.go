package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the one that tullectl runs on, lent to a command in another
// process table. The command gets a process group of its own, for it cannot
// name ours: a shell could not do job control.
type terminal struct {
	fd  int
	own int // our process group
}

// openTerminal returns the terminal if it is ours to lend: we read from it and
// write to it alone, in the foreground.
func openTerminal() (terminal, bool) {
	t := terminal{fd: int(os.Stdin.Fd()), own: unix.Getpgrp()}
	front, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	_, outErr := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return t, err == nil && outErr == nil && front == t.own
}

// lend lets cmd start as the group in the foreground.
func (t terminal) lend(cmd *exec.Cmd) {
	signal.Ignore(unix.SIGTTOU) // so that we may take it back from the background
	cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: t.fd}
}

// wait returns when the command has ended, with the terminal taken back. When
// Ctrl-Z stops the command, we stop too, so that our shell can go on with both.
func (t terminal) wait(pid int) error {
	for {
		stopped, err := waitStopped(pid)
		err = errors.Join(err, t.front(t.own))
		if err != nil || !stopped {
			return err
		}
		if err := unix.Kill(unix.Getpid(), unix.SIGSTOP); err != nil {
			return err
		}
		if err := errors.Join(t.front(pid), unix.Kill(-pid, unix.SIGCONT)); err != nil {
			return err
		}
	}
}

func (t terminal) front(group int) error {
	return unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group)
}

// waitStopped reports whether the child was stopped, or else has ended. It
// leaves an ended child for exec.Cmd to bury.
func waitStopped(pid int) (bool, error) {
	const stopped = 5 // CLD_STOPPED of sigaction(2)
	var info unix.Siginfo
	wait := func(options int) error {
		for {
			if err := unix.Waitid(unix.P_PID, pid, &info, options, nil); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	if err := wait(unix.WEXITED | unix.WSTOPPED | unix.WNOWAIT); err != nil || info.Code != stopped {
		return false, err
	}
	return true, wait(unix.WSTOPPED)
}
