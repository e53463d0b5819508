package firewall

import (
	"tulle/backend"
	"tulle/subnet"
)

// Table is the name of the tables of nftables that are ours, one for each Family.
func Table(scope string) string { return scoped("tulle", scope) }

// scoped is the name of a chain or table for one of several networks on a host.
// Names of chains of iptables have up to 28 characters.
func scoped(name, scope string) string {
	if scope == "" {
		return name
	}
	return name + "-" + scope
}

// place is where a list of rules stands: behind a jump from a chain that iptables
// has, or in a table of our own.
type place struct {
	table, from string       // of iptables; empty: not there
	chain       string       // of ours behind a jump
	name        string       // of the chain in Table
	hook        backend.Hook // of that; NoHook: it would be of no use there
	firewalld   []origin     // that are to lead to our chain, too
}

// origin is a chain of firewalld.
type origin struct{ table, from string }

// reloading is a table that firewalld has while it reloads, for some seconds, and
// by which it drops all that is not of a connection from before. Packets of VXLAN
// are of none, so without us the overlay would stand still.
const reloading = "firewalld_policy_drop"

// What accepts a packet has to be heard by each who may drop it, and an accept in
// a table of our own is heard by nobody.
var (
	forward = place{
		table: "filter", from: "FORWARD", chain: "TULLE-FORWARD",
		firewalld: []origin{{"firewalld", "filter_FORWARD"}, {reloading, "filter_forward"}},
	}
	admit = place{
		table: "filter", from: "INPUT", chain: "TULLE-INPUT",
		firewalld: []origin{{"firewalld", "filter_INPUT"}, {reloading, "filter_input"}},
	}
	dismiss = place{chain: "TULLE-OUTPUT", firewalld: []origin{{reloading, "filter_output"}}}
)

var postrouting = place{table: "nat", from: "POSTROUTING", chain: "TULLE-POSTROUTING", name: "postrouting", hook: backend.NATPostrouting}

// VXLAN packets between nodes are no connections: each has a source port of its
// flow inside and none is ever answered. Tracked, they take an entry for each flow,
// and one that bears kube-proxy's mark from the packet inside would be masqueraded
// as well. Linux before 5.7 then sends it with a wrong UDP checksum where the network
// card computes those.
var (
	arriving = place{table: "raw", from: "PREROUTING", chain: "TULLE-PREROUTING", name: "prerouting", hook: backend.RawPrerouting}
	leaving  = place{table: "raw", from: "OUTPUT", chain: "TULLE-OUTPUT", name: "output", hook: backend.RawOutput}
)

var places = []place{forward, postrouting, arriving, leaving, admit, dismiss}

// rows is what has to be there for the rules to be followed.
func (p place) rows(in backend.Input, f subnet.Family, rules ...backend.Rule) []backend.Entry {
	list := backend.NewRules(rules...)
	if in.Firewall == backend.NFTables && p.hook != backend.NoHook {
		return []backend.Entry{backend.Chain{Tool: backend.NFTables, Family: f, Table: Table(in.Scope), Name: p.name, Hook: p.hook, Rules: list}}
	}
	var rows []backend.Entry
	for _, j := range p.jumps(in.Scope, f) {
		if j.Tool != in.Firewall && p.hook != backend.NoHook {
			continue // once is enough
		}
		// Only the one that we work with has its tables at our wish.
		j.Optional = j.Tool != in.Firewall
		rows = append(rows, j, backend.Chain{Tool: j.Tool, Family: f, Table: j.Table, Name: j.To, Rules: list, Optional: j.Optional})
	}
	return rows
}

func (p place) jumps(scope string, f subnet.Family) []backend.Jump {
	var jumps []backend.Jump
	if p.table != "" {
		for _, tool := range []backend.Tool{backend.IPTables, backend.IPTablesLegacy} {
			jumps = append(jumps, backend.Jump{Tool: tool, Family: f, Table: p.table, From: p.from, To: scoped(p.chain, scope)})
		}
	}
	for _, o := range p.firewalld {
		// The tables are for both families, so a chain's name says for which it is.
		to := scoped(p.chain+[2]string{"-ip", "-ip6"}[f], scope)
		jumps = append(jumps, backend.Jump{Tool: backend.Firewalld, Family: f, Table: o.table, From: o.from, To: to})
	}
	return jumps
}
