package look

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/internal/trace"
)

var neighStates = map[int]string{
	netlink.NUD_INCOMPLETE: "incomplete", netlink.NUD_REACHABLE: "reachable", netlink.NUD_STALE: "stale", netlink.NUD_DELAY: "delay",
	netlink.NUD_PROBE: "probe", netlink.NUD_FAILED: "failed", netlink.NUD_NOARP: "noarp", netlink.NUD_PERMANENT: "permanent",
}

func (h *Host) readNeighs() error {
	var interrupted error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		rows, err := netlink.NeighListExecute(netlink.Ndmsg{Family: family})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
		interrupted = errors.Join(interrupted, err)
		for _, n := range rows {
			h.neighs[neighKey{h.names[n.LinkIndex], addr(n.IP)}] = trace.Neigh{MAC: n.HardwareAddr.String(), State: neighStates[n.State]}
		}
	}
	return interrupted
}

// Neigh implements trace.World.
func (h *Host) Neigh(dev string, a netip.Addr) (trace.Neigh, bool) {
	n, ok := h.neighs[neighKey{dev, a}]
	return n, ok
}

func (h *Host) readFDB() error {
	rows, err := netlink.NeighListExecute(netlink.Ndmsg{Family: unix.AF_BRIDGE})
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	for _, n := range rows {
		dev, mac := h.names[n.LinkIndex], n.HardwareAddr.String()
		if n.MasterIndex != 0 && n.Flags&netlink.NTF_SELF == 0 {
			h.fdb[fdbKey{h.names[n.MasterIndex], mac}] = trace.FDB{Port: dev}
			continue
		}
		if dst := addr(n.IP); dst.IsValid() {
			h.fdb[fdbKey{dev, mac}] = trace.FDB{Dst: dst}
		}
	}
	return err
}

// FDB implements trace.World.
func (h *Host) FDB(dev, mac string) (trace.FDB, bool) {
	row, ok := h.fdb[fdbKey{dev, mac}]
	return row, ok
}
