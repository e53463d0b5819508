package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process names a process of the machine for good. A pid alone may belong to a
// stranger by the time it is read back from the state file.
type process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot
}

// findProcess returns the process that has the pid now.
func findProcess(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name in parentheses may hold anything, so count from its end: the
	// state is field 3 of proc(5), the start time field 22.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat: %q has too few fields", pid, text)
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("/proc/%d/stat: start time: %w", pid, err)
	}
	return process{Pid: pid, Start: start}, nil
}

// alive reports whether the process still runs. A zombie does not.
func (p process) alive() bool {
	now, err := findProcess(p.Pid)
	return err == nil && now == p
}

// kill ends the process and returns when it is gone, whoever its parent is. It
// reports whether there was one to end.
func (p process) kill(ctx context.Context) (bool, error) {
	// The pidfd comes first: what alive then sees is what the signal meets.
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) || err == nil && !p.alive() {
		if err == nil {
			unix.Close(fd)
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open process %d: %w", p.Pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("kill process %d: %w", p.Pid, err)
	}
	for {
		const slice = 100 * time.Millisecond // so that ctx is looked at
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(slice.Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return true, fmt.Errorf("wait for process %d: %w", p.Pid, err)
		case n > 0:
			return true, nil
		case ctx.Err() != nil:
			return true, fmt.Errorf("wait for process %d to end: %w", p.Pid, context.Cause(ctx))
		}
	}
}
