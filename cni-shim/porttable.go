package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"tulle/subnet"
)

// portTable is the name of the tables, one per family.
const portTable = "tulle_ports"

func tableOf(f subnet.Family) *nftables.Table {
	return &nftables.Table{Name: portTable, Family: [2]nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}[f]}
}

// tableName is the family's table as nft(8) calls it.
func tableName(f subnet.Family) string { return [2]string{"ip ", "ip6 "}[f] + portTable }

// setNames are the maps and sets of a table.
var setNames = []string{"ports", "hosts", "hairpin", "owners"}

// setsOf are the maps and sets of a family's table.
func setsOf(f subnet.Family) map[string]*nftables.Set {
	t := tableOf(f)
	addr := [2]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}[f]
	join := nftables.MustConcatSetType
	proto, service := nftables.TypeInetProto, nftables.TypeInetService
	return map[string]*nftables.Set{
		"ports":   {Table: t, Name: "ports", IsMap: true, KeyType: join(proto, service), DataType: join(addr, service)},
		"hosts":   {Table: t, Name: "hosts", IsMap: true, KeyType: join(addr, proto, service), DataType: join(addr, service)},
		"hairpin": {Table: t, Name: "hairpin", KeyType: join(addr, addr)},
		"owners":  {Table: t, Name: "owners", KeyType: nftables.TypeEtherAddr},
	}
}

// chain is one of the table's chains as it should be.
type chain struct {
	name  string
	kind  nftables.ChainType
	hook  *nftables.ChainHook
	prio  *nftables.ChainPriority
	rules [][]expr.Any
}

func chainsOf(family subnet.Family) []chain {
	hosts, ports := mapRule(family, "hosts"), mapRule(family, "ports")
	chains := []chain{
		{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, [][]expr.Any{hosts, ports}},
		{"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, [][]expr.Any{hosts, ports}},
		{"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, [][]expr.Any{hairpinRule(family)}},
	}
	if family == subnet.IPv4 {
		chains = append(chains, chain{"guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, [][]expr.Any{guardRule()}})
	}
	return chains
}

// ruleVersion marks our rules. It changes when they or the sets do, so that a newer plugin
// replaces those of an older one.
const ruleVersion = "tulle 2"
