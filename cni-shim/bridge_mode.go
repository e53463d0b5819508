package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ensureModes sets what a bridge does with packets.
func (b bridge) ensureModes(h *netlink.Handle, br *netlink.Bridge) error {
	// With it the bridge would answer for every address that it has a route to.
	if err := setSysctl("net/ipv4/conf/"+b.Name+"/proxy_arp", "0"); err != nil {
		return err
	}
	if b.Promisc && br.Promisc == 0 {
		if err := h.SetPromiscOn(br); err != nil {
			return fmt.Errorf("set bridge %s promiscuous: %w", b.Name, err)
		}
	}
	if b.Kubernetes {
		return b.callIPTables(br)
	}
	return nil
}

// callIPTables lets the rules of iptables and nftables see what crosses the bridge.
// A pod's packet to a service is routed, and its destination rewritten; the answer
// of a pod on the same node would otherwise go back over the bridge alone, and
// with the wrong source. It is set for this bridge, not for all of the machine.
func (b bridge) callIPTables(br *netlink.Bridge) error {
	const nfCallIPTables, nfCallIP6Tables = 36, 37 // IFLA_BR_... of linux/if_link.h
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(br.Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nfCallIPTables, []byte{1})
	data.AddRtAttr(nfCallIP6Tables, []byte{1})
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without br_netfilter
		return fmt.Errorf("let iptables see bridge %s: %w", b.Name, err)
	}
	return nil
}
