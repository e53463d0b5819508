package kernel

import (
	"context"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

// WatchRules tells l about changes of chains of ours, and of those that lead to
// them, until ctx ends, and returns the error of ctx then. It hears of nftables,
// by which newer iptables works; see WatchLegacyRules for older ones.
func (k *Kernel) WatchRules(ctx context.Context, l Listener) error {
	lost := func() { l.Wake(backend.Firewall | backend.Guards) }
	return hear(ctx, hearBuffer, unix.NETLINK_NETFILTER, []uint{unix.NFNLGRP_NFTABLES}, func() {}, lost, func(m syscall.NetlinkMessage) {
		if k.guards.concerns(m) {
			l.Wake(backend.Guards)
		}
		if k.tables.concerns(m) {
			l.Wake(backend.Firewall)
		}
	})
}

// concerns reports whether an nftables message is about a chain of ours, or one
// that leads to ours, and tells of what others did.
func (t *tables) concerns(m syscall.NetlinkMessage) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < sizeofNfgenmsg {
		return false
	}
	if conn := t.rules.conn; conn != nil && m.Header.Pid == conn.port {
		return false
	}
	b := body(m.Data[sizeofNfgenmsg:])
	const tableName, chainOfRule, chainName = unix.NFTA_TABLE_NAME, unix.NFTA_RULE_CHAIN, unix.NFTA_CHAIN_NAME // the first has one number in all
	var chain string
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELTABLE:
		return true
	case unix.NFT_MSG_NEWTABLE:
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		chain = b.string(chainOfRule)
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		chain = b.string(chainName)
	default:
		return false
	}
	table := b.string(tableName)
	return t.rules.table != "" && table == t.rules.table || slices.ContainsFunc(slices.Concat(t.jumps, t.foreign), func(j backend.Jump) bool {
		return table == j.Table && (chain == j.From || chain == j.To)
	})
}
