package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Files in the directory of a host.
const (
	initSocket = "init.sock"
	initLog    = "init.log"
)

// detachByte on init's standard input says that the host outlives whoever
// brought it up.
const detachByte = 'd'

// readyFD is where init tells, by "ok" or by the fault, that the host stands.
const readyFD = 3

// InitOptions are the flags of `tullectl lab init`.
type InitOptions struct {
	Name string   // of the host
	Dir  string   // the host's directory on the machine
	Bin  string   // the folder with tulle's programs on the machine
	Own  []string // folders of which the host has a copy of its own
}

// RunInit is pid 1 of a host: it sets the host up, starts and signals processes
// when it is asked to, and buries the dead. It returns when its standard input
// ends before the lab was detached.
func RunInit(o InitOptions) error {
	if os.Getpid() != 1 {
		return errors.New("lab init is what a lab starts as pid 1 of its hosts; use tullectl lab up")
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	end := make(chan struct{}) // closed by lifeline
	go lifeline(os.Stdin, end)

	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	listener, err := setUpHost(o)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	s := newSupervisor(o.Name)
	server := rpc.NewServer()
	if err := server.RegisterName(supervisorName, s); err != nil {
		return err
	}
	go s.reap()
	go serve(server, listener)
	fmt.Fprint(ready, "ok")
	ready.Close()
	<-end
	return nil
}

// serve answers the labs' connections until the host ends.
func serve(server *rpc.Server, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go server.ServeCodec(jsonrpc.NewServerCodec(conn))
	}
}

// lifeline closes end when stdin ends, unless the lab was detached first.
func lifeline(stdin io.ReadCloser, end chan<- struct{}) {
	var b [1]byte
	if n, _ := stdin.Read(b[:]); n == 1 && b[0] == detachByte {
		stdin.Close()
		return
	}
	close(end)
}

func setUpHost(o InitOptions) (net.Listener, error) {
	if err := mountHost(o); err != nil {
		return nil, err
	}
	if err := unix.Sethostname([]byte(o.Name)); err != nil {
		return nil, fmt.Errorf("set host name %s: %w", o.Name, err)
	}
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	// A new network namespace starts with the machine's settings. That the
	// nodes forward must be tulled's doing.
	for _, setting := range forwarding {
		if err := os.WriteFile("/proc/sys/"+setting, []byte("0"), 0); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", filepath.Join(hostDir, initSocket))
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// hostProcess is how a host's init is started.
func hostProcess() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID,
		Setsid:     true, // Ctrl-C on the terminal is not for the hosts
	}
}
