package kernel

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// request is a netlink message with a fixed header for its kind.
func request(kind, flags int, header nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddData(header)
	return req
}

func askAck(msg []byte) {
	// nlmsg_flags are the two bytes behind nlmsg_len and nlmsg_type.
	flags := nl.NativeEndian().Uint16(msg[6:])
	nl.NativeEndian().PutUint16(msg[6:], flags|unix.NLM_F_ACK)
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// attributes are those of a message, by type. A value is only good as long as
// the message is.
type attributes [64][]byte

func parseAttributes(b []byte) (byType attributes, err error) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(nl.NativeEndian().Uint16(b))
		// The two upper bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
		kind := int(nl.NativeEndian().Uint16(b[2:]) & 0x3fff)
		if size < unix.SizeofRtAttr || size > len(b) {
			return byType, unix.EBADMSG
		}
		if kind < len(byType) {
			byType[kind] = b[unix.SizeofRtAttr:size]
		}
		b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return byType, nil
}

func (a *attributes) addr(t int) netip.Addr {
	addr, _ := netip.AddrFromSlice(a[t])
	return addr
}

func (a *attributes) uint32(t int) uint32 {
	if len(a[t]) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(a[t])
}
