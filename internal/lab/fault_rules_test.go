package lab

import (
	"slices"
	"testing"

	"tulle/subnet"
)

// forwardFaults are those of what stands in the FORWARD chain of iptables, whatever
// tulled works with.
var forwardFaults = []rowFault{
	{name: "jump deleted", do: "$IPTABLES -D FORWARD -j TULLE-FORWARD", told: "add jump", lossless: true},
	{name: "jump there twice", do: "$IPTABLES -A FORWARD -j TULLE-FORWARD", told: "set jump", lossless: true},
	{name: "rule deleted", do: "$IPTABLES -D TULLE-FORWARD 1", told: "set chain", lossless: true},
	{name: "rule altered", do: "$IPTABLES -R TULLE-FORWARD 2 -d $ELSE -j ACCEPT", told: "set chain", lossless: true},
	{name: "rule inserted that drops", do: "$IPTABLES -I TULLE-FORWARD -s $PODS -j DROP", told: "set chain"},
	{name: "chain emptied", do: "$IPTABLES -F TULLE-FORWARD", told: "set chain", lossless: true},
	{name: "iptables -F", do: "$IPTABLES -F", told: "add jump $IPTABLES filter FORWARD", lossless: true},
	{name: "FORWARD refuses all before our jump", do: "$IPTABLES -P FORWARD DROP; $IPTABLES -I FORWARD -j REJECT", undo: "$IPTABLES -P FORWARD ACCEPT; $IPTABLES -D FORWARD -j REJECT", told: "set jump"},
	{name: "FORWARD drops and is flushed", do: "$IPTABLES -P FORWARD DROP; $IPTABLES -F FORWARD", undo: "$IPTABLES -P FORWARD ACCEPT", told: "add jump"},
	{name: "FORWARD drops all before our jump", do: "$IPTABLES -P FORWARD DROP; $IPTABLES -I FORWARD -j DROP", undo: "$IPTABLES -P FORWARD ACCEPT; $IPTABLES -D FORWARD -j DROP", told: "set jump"},
}

// iptablesFaults are those of rules that stand in iptables only where tulled works
// with it.
var iptablesFaults = []rowFault{
	{name: "iptables -F and -X", asleep: true, do: "$IPTABLES -F; $IPTABLES -X", told: "add jump $IPTABLES filter FORWARD", lossless: true},
	{name: "nft flush ruleset", do: "nft flush ruleset", lossless: true},
	{name: "rule inserted", do: "$IPTABLES -t nat -I TULLE-POSTROUTING -s $ELSE -j RETURN", told: "set chain", lossless: true},
	{name: "rule of NonMasquerade deleted", do: "$IPTABLES -t nat -D TULLE-POSTROUTING -s $PODS -d $KEPT -j RETURN", told: "set chain $IPTABLES nat", lossless: true},
	{name: "iptables -t nat -F", do: "$IPTABLES -t nat -F", told: "add jump", lossless: true},
	{name: "nft delete table", do: "nft delete table $TABLES nat", told: "add jump", lossless: true},
	{name: "jump of the raw table deleted", do: "$IPTABLES -t raw -D OUTPUT -j TULLE-OUTPUT", told: "add jump $IPTABLES raw", lossless: true},
	{name: "iptables -t raw -F", do: "$IPTABLES -t raw -F", lossless: true},
	{name: "VXLAN tracked", do: "$IPTABLES -t raw -R TULLE-PREROUTING 1 -p udp --dport 9 -j CT --notrack", told: "set chain $IPTABLES raw", lossless: true},
}

// nftablesFaults are those of the table that is there where tulled works with
// nftables.
var nftablesFaults = []rowFault{
	{name: "iptables -F and -X", asleep: true, do: "$IPTABLES -F; $IPTABLES -X; $IPTABLES -P INPUT ACCEPT; $IPTABLES -P FORWARD ACCEPT", told: "add jump $IPTABLES filter FORWARD", lossless: true},
	{name: "nft flush ruleset", asleep: true, do: "nft flush ruleset; $IPTABLES -P INPUT ACCEPT; $IPTABLES -P FORWARD ACCEPT; $IPTABLES -t nat -P POSTROUTING ACCEPT", lossless: true},
	{name: "own table deleted", do: "nft delete table $TABLES tulle", lossless: true},
	{name: "own table flushed", do: "nft flush table $TABLES tulle", lossless: true},
	{name: "own table asleep", do: "nft add table $TABLES tulle '{ flags dormant; }'", lossless: true},
	{name: "own chain deleted", do: "nft delete chain $TABLES tulle postrouting", told: "add chain nftables $TABLES tulle postrouting", lossless: true},
	{name: "own chain emptied", do: "nft flush chain $TABLES tulle output", told: "set chain nftables $TABLES tulle output", lossless: true},
	{name: "own rule inserted", do: "nft insert rule $TABLES tulle postrouting $TABLES saddr $ELSE return", told: "set chain nftables $TABLES tulle postrouting", lossless: true},
	{name: "own rule of NonMasquerade deleted", do: "nft delete rule $TABLES tulle postrouting handle $(nft -a list chain $TABLES tulle postrouting | sed -n 's|.* daddr $KEPT .* return # handle ||p')", told: "set chain nftables $TABLES tulle postrouting", lossless: true},
	{name: "own rule inserted that drops", do: "nft insert rule $TABLES tulle output udp dport 8472 drop", told: "set chain nftables $TABLES tulle output"},
	{name: "own rule replaced", do: "nft replace rule $TABLES tulle output handle $(nft -a list chain $TABLES tulle output | sed -n 's/.*notrack # handle //p') udp dport 9 notrack", told: "set chain nftables $TABLES tulle output", lossless: true},
	{name: "own chain with a policy that drops", do: "nft add chain $TABLES tulle prerouting '{ policy drop; }'", told: "set chain nftables $TABLES tulle prerouting"},
	{name: "a stranger's chain in our table", do: "nft add chain $TABLES tulle mine", told: "delete chain nftables $TABLES tulle mine", lossless: true},
	{name: "table of iptables deleted and made again", asleep: true, do: "nft delete table $TABLES filter; $IPTABLES -P INPUT ACCEPT; $IPTABLES -P FORWARD ACCEPT", lossless: true},
	{name: "table of iptables deleted and made again to drop", asleep: true, do: "nft delete table $TABLES filter; $IPTABLES -P INPUT ACCEPT; $IPTABLES -P FORWARD DROP", undo: "$IPTABLES -P FORWARD ACCEPT"},
}

// kept is of a network that sees pods' own addresses, of each family.
const kept = "--non-masquerade=192.168.0.0/16,2001:db8:77::/48"

func TestFaultsOfIPTables(t *testing.T) {
	t.Parallel()
	sufferAll(t, Options{Nodes: 2, Pods: 1, Network: []string{kept}, Firewall: "iptables"}, subnet.IPv4, slices.Concat(forwardFaults, iptablesFaults))
}

// TestFaultsOfIPTablesIPv6 is of rules for IPv6 over IPv6.
func TestFaultsOfIPTablesIPv6(t *testing.T) {
	t.Parallel()
	six := families(t, "6")
	sufferAll(t, Options{Nodes: 2, Pods: 1, Families: six, Underlay: six, Network: []string{kept}, Firewall: "iptables"}, subnet.IPv6, slices.Concat(forwardFaults, iptablesFaults))
}

func TestFaultsOfNFTables(t *testing.T) {
	t.Parallel()
	sufferAll(t, Options{Nodes: 2, Pods: 1, Network: []string{kept}, Firewall: "nftables"}, subnet.IPv4, slices.Concat(forwardFaults, nftablesFaults))
}

// TestFaultsOfNFTablesIPv6 is of rules for IPv6 over IPv6.
func TestFaultsOfNFTablesIPv6(t *testing.T) {
	t.Parallel()
	six := families(t, "6")
	sufferAll(t, Options{Nodes: 2, Pods: 1, Families: six, Underlay: six, Network: []string{kept}, Firewall: "nftables"}, subnet.IPv6, slices.Concat(forwardFaults, nftablesFaults))
}
