package main

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// deleteInBackground deletes a link and returns as soon as it is gone from the
// host and from the pod. The kernel does that in a millisecond; but the thread that
// asked for it is then held for 15 to 25 ms more, until no processor can have the
// device in its hands (rcu_barrier in netdev_run_todo), and a process does not end
// before its threads. So a copy of this process asks, and waits, alone. It runs
// nothing but a few system calls, cannot be held up by anybody, and is reaped by
// whoever reaps orphans.
//
// release are descriptors that the copy must not keep: locks, and pipes whose other
// end waits for them to be closed. Where a process cannot be made the caller waits;
// and where the runtime is process 1 of its container, which then should reap orphans
// and may know of none: one would be left for each pod.
func deleteInBackground(h *netlink.Handle, link netlink.Link, release []int) error {
	if os.Getppid() == 1 {
		return h.LinkDel(link)
	}
	sock, pipe, err := openWays()
	if err != nil { // too many files are open
		return h.LinkDel(link)
	}
	defer unix.Close(sock)
	defer unix.Close(pipe[0])
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)

	err = fork(sock, pipe[1], req.Serialize(), make([]byte, 4096), release)
	_ = unix.Close(pipe[1])
	if err != nil {
		return h.LinkDel(link)
	}
	err = awaitGone(h, link.Attrs().Index, pipe[0])
	if errors.Is(err, errDied) {
		return h.LinkDel(link)
	}
	return err
}

// openWays opens what the copy talks through: to the kernel, and to this process.
func openWays() (sock int, pipe [2]int, err error) {
	sock, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, pipe, os.NewSyscallError("socket", err)
	}
	if err = unix.Connect(sock, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		err = os.NewSyscallError("connect", err)
	} else if err = unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		err = os.NewSyscallError("pipe2", err)
	}
	if err != nil {
		_ = unix.Close(sock)
	}
	return sock, pipe, err
}

// inherited are the descriptors that were open when the program started: what it
// opens itself is closed on exec. Beside the usual three that may be the lock of a
// script.
func inherited() []int {
	fds := []int{unix.Stdin, unix.Stdout, unix.Stderr}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fds
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= unix.Stderr {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// errDied says that the copy ended without a word.
var errDied = errors.New("the process that deletes the link died")

// awaitGone waits until the link is gone, or the copy tells what the kernel said.
func awaitGone(h *netlink.Handle, index, pipe int) error {
	answer := make([]byte, 4)
	poll := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		wait := unix.NsecToTimespec(pause.Nanoseconds())
		if n, err := unix.Ppoll(poll, &wait, nil); n > 0 && err == nil {
			n, err := unix.Read(pipe, answer)
			if err != nil {
				return os.NewSyscallError("read", err)
			}
			if n < len(answer) {
				return errDied
			}
			if errno := int32(binary.NativeEndian.Uint32(answer)); errno != 0 {
				return unix.Errno(-errno)
			}
			return nil
		}
		_, err := h.LinkByIndex(index)
		if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
			return nil
		}
	}
}

// fork makes the copy, without signals: there is no Go runtime in it that could
// handle one.
func fork(sock, pipe int, request, answer []byte, release []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return os.NewSyscallError("sigprocmask", err)
	}
	_, errno := rawFork(sock, pipe, request, answer, release)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		return os.NewSyscallError("sigprocmask", err)
	}
	if errno != 0 {
		return os.NewSyscallError("clone", errno)
	}
	return nil
}

// rawFork never returns in the copy, where the stack cannot grow and nothing may be
// allocated.
//
//go:norace
//go:nosplit
func rawFork(sock, pipe int, request, answer []byte, release []int) (uintptr, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	for _, fd := range release {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	}
	_, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(sock), uintptr(unsafe.Pointer(&request[0])), uintptr(len(request)))
	if errno == 0 {
		// The answer is a header of 16 bytes and then the error, negative.
		_, _, errno = unix.RawSyscall(unix.SYS_READ, uintptr(sock), uintptr(unsafe.Pointer(&answer[0])), uintptr(len(answer)))
	}
	text := uintptr(unsafe.Pointer(&answer[unix.SizeofNlMsghdr]))
	if errno != 0 {
		*(*int32)(unsafe.Pointer(&answer[unix.SizeofNlMsghdr])) = -int32(errno)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(pipe), text, 4)
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
