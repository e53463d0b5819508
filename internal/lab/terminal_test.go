package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal runs a command on a terminal of its own and types the lines. Each
// one is typed when the terminal shows what stands before it.
func onTerminal(t *testing.T, cmd *exec.Cmd, talk ...[2]string) string {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	unread := ""
	for buf := make([]byte, 4096); ; {
		n, err := ours.Read(buf)
		if err != nil {
			break // EIO: nobody has it open any more
		}
		shown.Write(buf[:n])
		unread += string(buf[:n])
		for len(talk) > 0 {
			_, rest, found := strings.Cut(unread, talk[0][0])
			if !found {
				break
			}
			unread = rest
			if _, err := ours.WriteString(talk[0][1]); err != nil {
				t.Fatal(err)
			}
			talk = talk[1:]
		}
	}
	_ = cmd.Wait() // the caller looks at its status
	return shown.String()
}
