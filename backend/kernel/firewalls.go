package kernel

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/subnet"
)

// Kinds of programs by the name of iptables.
const (
	kindNFTables = "nf_tables"
	kindLegacy   = "legacy"
)

// programKind is the kind of the host's iptables, empty if there is none.
func programKind() (string, error) {
	path, err := exec.LookPath(programNames[subnet.IPv4])
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	text, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("run %s --version: %w", path, err)
	}
	if strings.Contains(string(text), "(nf_tables)") {
		return kindNFTables, nil
	}
	return kindLegacy, nil // before 1.8 there was no other
}

// Firewalls looks at what firewalls this host has. It changes nothing.
func Firewalls() (backend.Firewalls, error) {
	var have backend.Firewalls
	kind, err := programKind()
	if err != nil {
		return have, err
	}
	have.Program, have.ProgramLegacy = kind != "", kind == kindLegacy
	if have.LegacyRules, err = legacyRules(); err != nil {
		return have, err
	}
	if _, err := exec.LookPath(legacyNames[subnet.IPv4]); err != nil {
		have.LegacyUnheard = have.LegacyRules && !have.ProgramLegacy
	}
	n, err := openNFT()
	if err != nil || n.conn == nil {
		return have, err
	}
	defer n.close()
	var chains []string
	req := nl.NewNetlinkRequest(nftMessage(unix.NFT_MSG_GETCHAIN), unix.NLM_F_DUMP)
	req.AddData(nfgenmsg{unix.NFPROTO_UNSPEC})
	err = n.conn.dumpOnce(req, func(m syscall.NetlinkMessage) error {
		b := nftBody(m)
		table := b.string(unix.NFTA_CHAIN_TABLE)
		have.KubeNFTables = have.KubeNFTables || table == "kube-proxy"
		chains = append(chains, b.string(unix.NFTA_CHAIN_NAME))
		return nil
	})
	switch {
	case errors.Is(err, unix.EINVAL):
		return have, nil // netfilter without nftables
	case err != nil && !errors.Is(err, errInterrupted):
		return have, fmt.Errorf("list chains of nftables: %w", err)
	}
	have.NFTables = true
	for _, chain := range chains {
		have.KubeIPTables = have.KubeIPTables || strings.HasPrefix(chain, "KUBE-")
	}
	_, flags, err := n.conn.table(inet, "firewalld")
	have.FirewalldUnheard = flags&flagOwner != 0
	return have, err
}

// legacyRules reports whether legacy tables have more in them than what they are
// made with: a policy for each chain, and the end.
func legacyRules() (bool, error) {
	var jumps []backend.Jump
	for _, f := range subnet.Families {
		for _, table := range []string{"filter", "nat"} {
			if legacyLoaded(f, table) {
				jumps = append(jumps, backend.Jump{Family: f, Table: table})
			}
		}
	}
	tables, err := openLegacy(jumps)
	if errors.Is(err, unix.EPERM) {
		return false, fmt.Errorf("look at the tables of legacy iptables, which this host has: %w; give tulled the capability CAP_NET_RAW", err)
	}
	if err != nil {
		return false, fmt.Errorf("look at the tables of legacy iptables: %w", err)
	}
	defer tables.close()
	empty := map[string]int{"filter": 3 + 1, "nat": 4 + 1}
	for _, t := range tables.tables {
		info, err := t.look()
		if err != nil {
			return false, fmt.Errorf("look at legacy table %s: %w", t.name, err)
		}
		if info.entries() > empty[t.name] {
			return true, nil
		}
	}
	return false, nil
}
