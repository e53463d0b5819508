package main

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// young is the age under which a reservation of another plugin may belong to a
// pod that is being attached at this moment. tulle's own are locked meanwhile.
const young = time.Minute

// stale are those of the reservations whose pods are gone. The kernel is asked, not
// a list: a veth goes with the namespace of its pod.
//
//   - One that tulle made is alive while there is the veth whose name follows from
//     the container.
//   - host-local's does not lead to a veth. It is alive while its address is in a
//     namespace that a veth of this host leads into. If any veth leads to where we
//     see no address at all, as with runtimes that bring a network stack of their
//     own, it may be the pod's, and none of host-local's is taken for stale.
func (i *ipam) stale(h *netlink.Handle, all []reservation) ([]reservation, error) {
	l, err := i.list()
	if err != nil {
		return nil, err
	}
	links, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names, living, opaque := map[string]bool{}, map[netip.Addr]bool{}, false
	asked := map[int]bool{}
	for _, link := range links {
		a := link.Attrs()
		names[a.Name] = true
		if link.Type() != "veth" || a.NetNsID < 0 || isHostName(a.Name) || asked[a.NetNsID] {
			continue
		}
		asked[a.NetNsID] = true
		addrs, err := addrsInside(a.NetNsID)
		if err != nil {
			return nil, fmt.Errorf("list addresses behind %s: %w", a.Name, err)
		}
		for _, addr := range addrs {
			living[addr] = true
		}
		opaque = opaque || len(addrs) == 0
	}
	var gone []reservation
	for _, r := range all {
		if names[r.holder.hostName()] || living[r.addr] {
			continue
		}
		if !l.known[r.addr] && (opaque || i.isYoung(r.addr)) {
			continue
		}
		gone = append(gone, r)
	}
	return gone, nil
}

func (i *ipam) isYoung(addr netip.Addr) bool {
	var s unix.Stat_t
	err := unix.Fstatat(i.fd(), addr.String(), &s, unix.AT_SYMLINK_NOFOLLOW)
	return err != nil || time.Since(time.Unix(s.Mtim.Unix())) < young
}

// addrsInside lists the addresses in another namespace, known by the number that
// this one has for it, without going there; but for those that every namespace
// has. Linux 4.20 or newer; an older one answers with our own addresses, which
// are no pod's.
func addrsInside(nsID int) ([]netip.Addr, error) {
	const ifaTargetNetnsID = 10
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// Only a request that is checked strictly is looked at for this attribute.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(ifaTargetNetnsID, nl.Uint32Attr(uint32(nsID))))
	if err := unix.Sendto(fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var addrs []netip.Addr
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return addrs, nil
			case unix.NLMSG_ERROR:
				return nil, unix.Errno(-int32(nl.NativeEndian().Uint32(m.Data)))
			}
			attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfAddrmsg:])
			if err != nil {
				return nil, err
			}
			for _, attr := range attrs {
				if t := attr.Attr.Type; t != unix.IFA_ADDRESS && t != unix.IFA_LOCAL {
					continue
				}
				if a, ok := netip.AddrFromSlice(attr.Value); ok && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
					addrs = append(addrs, a)
				}
			}
		}
	}
}
