package look

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"tulle/internal/ruleset"
)

// readRules reads all rules of netfilter with the programs that write them.
func readRules() ruleset.Ruleset {
	var all ruleset.Ruleset
	if os.Geteuid() != 0 {
		all.Unread = []string{"only root may"}
		return all
	}
	legacy := legacy()
	read := map[string]bool{} // family and table that iptables has told of
	for _, tool := range []struct{ name, family, names string }{
		{"iptables", "ip", ""},
		{"ip6tables", "ip6", ""},
		// Asking for the tables of legacy iptables would make them.
		{"iptables-legacy", "ip", "/proc/net/ip_tables_names"},
		{"ip6tables-legacy", "ip6", "/proc/net/ip6_tables_names"},
	} {
		if tool.names != "" {
			if text, err := os.ReadFile(tool.names); err != nil || len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			if legacy {
				continue // it is what iptables itself is here
			}
		}
		text, err := output(tool.name + "-save")
		if err != nil {
			if !errors.Is(err, exec.ErrNotFound) {
				all.Unread = append(all.Unread, err.Error())
			}
			continue
		}
		for _, c := range ruleset.IPTables(tool.name, text) {
			all.Chains = append(all.Chains, c)
			read[c.Family+" "+c.Table] = true
		}
	}
	text, err := output("nft", "-j", "list", "ruleset")
	if err != nil {
		all.Unread = append(all.Unread, err.Error())
		return all
	}
	chains, err := ruleset.NFT([]byte(text), func(family, table string) bool { return read[family+" "+table] && !legacy })
	if err != nil {
		all.Unread = append(all.Unread, err.Error())
	}
	for i, c := range chains {
		if c.Hook == ruleset.Ingress && len(c.Devs) == 0 {
			text, _ := output("nft", "list", "chain", c.Family, c.Table, c.Name) // without it the chain's rules may match
			chains[i].Devs = ruleset.Devices(text)
		}
	}
	all.Chains = append(all.Chains, chains...)
	return all
}

// legacy reports whether iptables is the one that does not use nftables.
func legacy() bool {
	text, err := output("iptables", "--version")
	return err == nil && strings.Contains(text, "legacy")
}

func output(args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if told, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n"); err != nil && told != "" {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, told)
	} else if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return string(text), nil
}
