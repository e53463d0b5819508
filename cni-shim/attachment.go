package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// attachment names one interface of one container. It is all that DEL and GC
// need to find what ADD made.
type attachment struct{ ContainerID, IfName string }

func attachmentOf(args *skel.CmdArgs) attachment {
	return attachment{args.ContainerID, args.IfName}
}

// hostName is the name of the veth's end on the host. It has as many digits as
// a name can have, which also tells it from the shorter names that the reference
// bridge plugin gives.
func (a attachment) hostName() string {
	sum := sha256.Sum256([]byte(a.ContainerID + "\x00" + a.IfName))
	return hostPrefix + hex.EncodeToString(sum[:])[:hostDigits]
}

const (
	hostPrefix = "veth"
	hostDigits = 15 - len(hostPrefix)
)

// isHostName reports whether hostName could have made the name.
func isHostName(name string) bool {
	digits, ok := strings.CutPrefix(name, hostPrefix)
	return ok && len(digits) == hostDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// groupOf is the group of a network's veths (ip link show group N): how GC knows
// them from those of another network on the same bridge.
func groupOf(network string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(network))
	return max(h.Sum32()>>1, 1) // ip(8) takes it for signed, and 0 is the group of all that have none
}

// checkIfName refuses what the library lets pass and the kernel would take for
// a pattern to invent a name from.
func checkIfName(name string) error {
	if strings.Contains(name, "%") {
		return coded(types.ErrInvalidEnvironmentVariables, fmt.Errorf("CNI_IFNAME %q: a percent sign makes the kernel invent a name", name))
	}
	return nil
}
