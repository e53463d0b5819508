package firewall

import (
	"fmt"

	"tulle/backend"
)

// ParseTool reads the name of a tool that can be worked with.
func ParseTool(text string) (backend.Tool, error) {
	for _, t := range []backend.Tool{backend.IPTables, backend.NFTables} {
		if t.String() == text {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%q is not iptables, nftables or auto", text)
}

// Choose says what to work with on a host, and why.
func Choose(f backend.Firewalls) (backend.Tool, string) {
	switch {
	case !f.NFTables:
		return backend.IPTables, "the kernel has no nftables"
	case !f.Program:
		return backend.NFTables, "the program iptables is not installed"
	case f.KubeNFTables:
		return backend.NFTables, "kube-proxy uses nftables"
	case f.ProgramLegacy:
		return backend.IPTables, "the host's iptables is the legacy one"
	case f.KubeIPTables:
		return backend.IPTables, "kube-proxy uses iptables"
	}
	return backend.NFTables, "nothing on this host asks for iptables"
}
