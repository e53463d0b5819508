// Command systemctl does on a host of a lab, which has no systemd, what systemd
// would do with the units of tulled and of Debian's etcd: it starts the program of
// the service's name, with the settings of its file in /etc/default, and returns
// when that says READY=1. That our unit itself does so is tested with systemd.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTime is how long a service may take to say that it is ready.
const startTime = time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "systemctl: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string) error {
	now := slices.Contains(args, "--now")
	args = slices.DeleteFunc(args, func(a string) bool { return a == "--now" })
	if len(args) != 2 {
		return fmt.Errorf("%s: want a verb and a service", args)
	}
	verb, name := args[0], args[1]
	switch {
	case verb == "start", verb == "enable" && now:
		return start(name)
	case verb == "stop", verb == "disable" && now:
		return stop(name)
	case verb == "restart":
		return errors.Join(stop(name), start(name))
	case verb == "enable", verb == "disable":
		return nil // there is no boot
	}
	return fmt.Errorf("%s: no such verb here", verb)
}

func file(name, ending string) string { return "/run/" + name + "." + ending }

// running is the process of a service, or 0.
func running(name string) int {
	text, err := os.ReadFile(file(name, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

func stop(name string) error {
	pid := running(name)
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	for syscall.Kill(pid, 0) == nil {
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// start starts a service, unless it runs, and returns when it is ready.
func start(name string) error {
	if running(name) != 0 {
		return nil
	}
	socket := file(name, "notify")
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer listener.Close()
	log, err := os.Create(file(name, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	service := exec.Command("sh", "-c", fmt.Sprintf("set -a; [ ! -e /etc/default/%[1]s ] || . /etc/default/%[1]s; exec %[1]s", name))
	service.Stdout, service.Stderr = log, log
	service.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	service.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := service.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(file(name, "pid"), []byte(strconv.Itoa(service.Process.Pid)), 0o644); err != nil {
		return err
	}
	if err := listener.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- service.Wait()
		_ = listener.SetReadDeadline(time.Now())
	}()
	for message := make([]byte, 4096); ; {
		n, err := listener.Read(message)
		if err != nil {
			select {
			case err = <-ended:
			default:
			}
			text, _ := os.ReadFile(file(name, "log"))
			return fmt.Errorf("%s did not become ready: %w\n%s", name, err, text)
		}
		if slices.Contains(strings.Fields(string(message[:n])), "READY=1") {
			return nil
		}
	}
}
