package kernel

import (
	"context"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// WatchRules tells l about changes of chains of ours, and of those that lead to
// them, until ctx ends, and returns the error of ctx then. It hears of nftables,
// by which newer iptables works; see WatchLegacyRules for older ones.
func (k *Kernel) WatchRules(ctx context.Context, l Listener) error {
	lost := func() { l.Wake(backend.Firewall | backend.Guards) }
	return hear(ctx, hearBuffer, unix.NETLINK_NETFILTER, []uint{unix.NFNLGRP_NFTABLES}, lost, func(m syscall.NetlinkMessage) {
		if k.guards.concerns(m) {
			l.Wake(backend.Guards)
		}
		if k.tables.concerns(m) {
			l.Wake(backend.Firewall)
		}
	})
}

// concerns reports whether an nftables message is about a chain of ours or one
// that leads to ours.
func (t *tables) concerns(m syscall.NetlinkMessage) bool {
	const nfgenmsg = 4 // bytes
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nfgenmsg {
		return false
	}
	attrs, err := parseAttributes(m.Data[nfgenmsg:])
	if err != nil {
		return true
	}
	var chain string
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELTABLE:
		return true
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		chain = nl.BytesToString(attrs[unix.NFTA_RULE_CHAIN])
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		chain = nl.BytesToString(attrs[unix.NFTA_CHAIN_NAME])
	}
	for _, j := range t.jumps {
		if chain == j.From || chain == j.To {
			return true
		}
	}
	return false
}
