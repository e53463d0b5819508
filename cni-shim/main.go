// Command tulle is the CNI plugin: it wires a pod to the node's bridge, in one
// short-lived process that asks no daemon and starts no other program. It tells
// the daemon of this node what it did, if there is one.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	cniversion "github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"tulle/internal/version"
)

func main() {
	began := time.Now()
	supported := cniversion.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")
	if os.Getenv("CNI_COMMAND") == "" {
		about(supported)
		return
	}
	os.Stdout, os.Stderr = persistent(os.Stdout), persistent(os.Stderr)
	var spoken string // version of the configuration
	verb := func(name string, do func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			spoken = versionOf(args.StdinData)
			return told(name, began, do)(args)
		}
	}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: verb("ADD", add), Del: verb("DEL", del), Check: verb("CHECK", check), GC: verb("GC", gc), Status: verb("STATUS", status),
	}, supported, "")
	if err != nil {
		refuse(err, spoken)
	}
}

// persistent is a file by another descriptor. When nobody reads the result of an ADD any
// more, it is taken back; and Go ends a program by a signal that writes to nobody by the
// descriptors 1 and 2. (To ignore that, package os/signal makes each start 0.3 ms longer.)
func persistent(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, unix.Stderr+1) // not closed on exec: see inherited
	if err != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// about is for the person who runs the plugin by hand.
func about(supported cniversion.PluginInfo) {
	fmt.Printf("tulle %s\nCNI plugin, started by a container runtime; CNI versions %s\n",
		version.String(), strings.Join(supported.SupportedVersions(), ", "))
	if len(os.Args) > 1 && strings.TrimLeft(os.Args[1], "-") != "version" {
		fmt.Fprintf(os.Stderr, "%q is not understood; the plugin takes its orders from CNI_COMMAND\n", os.Args[1])
		os.Exit(2)
	}
}
