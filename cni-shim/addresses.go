package main

import (
	"errors"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addrsInside lists the addresses in another namespace, known by the number that
// this one has for it, without going there; but for those that every namespace
// has. Linux 4.20 or newer; an older one answers with our own addresses, which
// are no pod's.
func addrsInside(nsID int) ([]netip.Addr, error) {
	const ifaTargetNetnsID = 10
	all, err := dump(func() ([]netip.Prefix, error) {
		return addresses(0, nl.NewRtAttr(ifaTargetNetnsID, nl.Uint32Attr(uint32(nsID))))
	})
	if errors.Is(err, unix.EINVAL) {
		return nil, nil // the namespace has just gone
	}
	var addrs []netip.Addr
	for _, p := range all {
		if a := p.Addr(); !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

// addrsOn lists the addresses of one interface of ours. The kernel is told which,
// and does not read us those of all others.
func addrsOn(index int) ([]netip.Prefix, error) {
	return dump(func() ([]netip.Prefix, error) { return addresses(index) })
}

// addresses asks for those of one interface, or of all when index is 0.
func addresses(index int, more ...*nl.RtAttr) ([]netip.Prefix, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// Only a request that is checked strictly is looked at for its details.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	msg := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	msg.Index = uint32(index)
	req.AddData(msg)
	for _, attr := range more {
		req.AddData(attr)
	}
	if err := unix.Sendto(fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var addrs []netip.Prefix
	buf := make([]byte, 1<<15)
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
			if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
				return nil, netlink.ErrDumpInterrupted
			}
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				if len(m.Data) >= 4 {
					// A dump that fails, as for an interface that is gone, says so at its end.
					if errno := int32(nl.NativeEndian().Uint32(m.Data)); errno < 0 {
						return nil, unix.Errno(-errno)
					}
				}
				return addrs, nil
			case unix.NLMSG_ERROR:
				return nil, unix.Errno(-int32(nl.NativeEndian().Uint32(m.Data)))
			}
			has := nl.DeserializeIfAddrmsg(m.Data)
			if index != 0 && int(has.Index) != index {
				continue
			}
			if p, ok := ownAddr(has, m.Data); ok {
				addrs = append(addrs, p)
			}
		}
	}
}

// ownAddr is the interface's own end, and not the other one of a wire between two.
func ownAddr(has *nl.IfAddrmsg, data []byte) (netip.Prefix, bool) {
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return netip.Prefix{}, false
	}
	var p netip.Prefix
	for _, attr := range attrs {
		if t := attr.Attr.Type; t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !p.IsValid() {
			if a, ok := netip.AddrFromSlice(attr.Value); ok {
				p = netip.PrefixFrom(a, int(has.Prefixlen))
			}
		}
	}
	return p, p.IsValid()
}
