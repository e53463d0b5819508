package main

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"tulle/internal/operation"
)

// told is the function of a verb that in the end tells the daemon of it.
func told(verb string, began time.Time, do func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		err := answered(do(args))
		tell(socketOf(args.StdinData), operation.Operation{Verb: verb, Code: codeOf(err), Took: time.Since(began)})
		return err
	}
}

// tell sends one datagram, or nothing: where there is no daemon, or it has enough to
// do, the operation is not counted. It never waits and never fails.
func tell(socket string, o operation.Operation) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Sendto(fd, []byte(o.String()), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket})
}

// socketOf is where the daemon of a configuration's network listens. A configuration
// that cannot be read was told of already, and the daemon counts that too.
func socketOf(netconf []byte) string {
	c := struct{ SubnetFile string }{defaultSubnetFile}
	_ = json.Unmarshal(netconf, &c)
	return operation.Socket(c.SubnetFile)
}

// versionOf is the version that a configuration is written in.
func versionOf(netconf []byte) string {
	var c struct{ CNIVersion string }
	_ = json.Unmarshal(netconf, &c)
	return c.CNIVersion
}

// codeOf is the code under which a runtime hears of the error.
func codeOf(err error) uint {
	e := (*types.Error)(nil)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	case errors.As(err, &fileError{}):
		return types.ErrIOFailure
	}
	return types.ErrInternal
}
