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

	"tulle/internal/version"
)

func main() {
	began := time.Now()
	supported := cniversion.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")
	if os.Getenv("CNI_COMMAND") == "" {
		about(supported)
		return
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    told("ADD", began, add),
		Del:    told("DEL", began, del),
		Check:  told("CHECK", began, check),
		GC:     told("GC", began, gc),
		Status: told("STATUS", began, status),
	}, supported, "")
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
