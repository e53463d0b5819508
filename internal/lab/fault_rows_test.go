package lab

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// rowFault is a fault that tulled heals by itself: after it the rows are as
// they were.
type rowFault struct {
	name     string
	do, undo string // shell scripts; undo takes away what is not tulled's
	told     string // in the log, once
	lossless bool   // the path of the probe is not touched
	asleep   bool   // the daemon is stopped meanwhile, for it is faster than ip(8)
}

const stray = "02:00:00:00:00:99" // a MAC address that no node has

var rowFaults = []rowFault{
	{name: "FDB row deleted", do: "bridge fdb del $MAC dev tulle.1 dst $PEER", told: "add fdb"},
	{name: "FDB row altered", do: "bridge fdb replace $MAC dev tulle.1 dst $NOBODY self permanent", told: "set fdb"},
	{name: "FDB row to another UDP port", do: "bridge fdb replace $MAC dev tulle.1 dst $PEER port 9 self permanent", told: "set fdb"},
	{name: "FDB rows that flood", asleep: true, do: "for i in $NOBODY $NOBODY2; do bridge fdb append 00:00:00:00:00:00 dev tulle.1 dst $i self permanent; done", lossless: true},
	{name: "FDB row of nobody", do: "bridge fdb add " + stray + " dev tulle.1 dst $NOBODY self permanent", told: "delete fdb", lossless: true},
	{name: "neighbour deleted", do: "ip neigh del $GW dev tulle.1", told: "add neigh"},
	{name: "neighbour altered", do: "ip neigh replace $GW dev tulle.1 lladdr " + stray + " nud permanent", told: "set neigh"},
	{name: "neighbour no longer permanent", do: "ip neigh replace $GW dev tulle.1 lladdr $MAC nud reachable", told: "add neigh", lossless: true},
	{name: "neighbour of nobody", do: "ip neigh add $NOGW dev tulle.1 lladdr " + stray + " nud permanent", told: "delete neigh", lossless: true},
	{name: "nexthop deleted", do: "ip nexthop del id $ID", told: "add nexthop"},
	{name: "nexthop altered", do: "ip nexthop replace id $ID via $NOGW dev tulle.1 onlink proto 116", told: "set nexthop"},
	{name: "nexthop replaced by hand", do: "ip nexthop replace id $ID via $ROUTER dev eth0", told: "add nexthop"},
	{name: "route deleted", do: "ip route del $DST", told: "add route"},
	{name: "route altered", do: "ip route replace $DST via $ROUTER dev eth0", told: "add route"},
	{name: "route altered under our protocol number", do: "ip route replace $DST via $ROUTER dev eth0 proto 116", told: "set route"},
	{name: "route made a blackhole", do: "ip route replace blackhole $DST", told: "add route"},
	{name: "route of nobody under our protocol number", do: "ip route add $NOSUBNET via $ROUTER proto 116", told: "delete route", lossless: true},
	{name: "all nexthops flushed", do: "ip nexthop flush proto 116"},
	{name: "address deleted", do: "ip address del $OWN/$HOST dev tulle.1", told: "add address", lossless: true},
	{name: "address with another prefix length", do: "ip address del $OWN/$HOST dev tulle.1; ip address add $OWN/$WIDE dev tulle.1", asleep: true, told: "add address", lossless: true},
	{name: "address of nobody", do: "ip address add $NOADDR dev tulle.1", told: "delete address", lossless: true},

	{name: "guard deleted", do: "nft delete table inet tulle.1", lossless: true},
	{name: "guard's rules deleted", do: "nft flush chain inet tulle.1 vxlan", lossless: true},
	{name: "guard's chain deleted", do: "nft delete chain inet tulle.1 input", lossless: true},
	{name: "guard's addresses deleted", do: "nft flush set inet tulle.1 $VTEPS"},
	{name: "guard's sources deleted", do: "nft flush set inet tulle.1 $SOURCES"},
	{name: "guard lets a stranger in", do: "nft add element inet tulle.1 $VTEPS { $NOBODY }", lossless: true},
	{name: "forwarding off", do: "sysctl -qw $FORWARD=0", told: "set sysctl $FORWARD"},

	{name: "forwarding of the device off", do: "sysctl -qw $CONF/tulle.1/forwarding=0", told: "set sysctl $CONF/tulle.1/forwarding"},

	{name: "the pods' bridge takes more than pods may send", do: "ip link set cni0 mtu 1500", told: "set bridge", lossless: true},

	{name: "device down and up", do: "ip link set tulle.1 down; ip link set tulle.1 up"},
	{name: "device down", do: "ip link set tulle.1 down"},
	{name: "MAC changed", do: "ip link set tulle.1 address 02:00:00:00:00:98"},
	{name: "MTU changed", do: "ip link set tulle.1 mtu 1300", told: "set link", lossless: true},
	{name: "alias changed", do: "ip link set tulle.1 alias mine", told: "set link", lossless: true},
	{name: "device renamed", do: "ip link set tulle.1 down; ip link set tulle.1 name other", asleep: true},
	{name: "device deleted", do: "ip link del tulle.1"},
	{name: "device replaced by a bridge", do: "ip link del tulle.1; ip link add tulle.1 type bridge", asleep: true},
	{name: "device replaced by a VXLAN device of another VNI", do: "ip link del tulle.1; ip link add tulle.1 type vxlan id 99 dstport 8473 dev eth0 local $LOCAL", asleep: true},
	{name: "device replaced by one that learns", do: "ip link del tulle.1; ip link add tulle.1 type vxlan id 1 dstport 8472 dev eth0 local $LOCAL learning; ip link set tulle.1 up", asleep: true},
}

// rowFaults6 are those that there are for IPv6 alone.
var rowFaults6 = []rowFault{
	{name: "IPv6 off on the device", do: "sysctl -qw net/ipv6/conf/tulle.1/disable_ipv6=1"},
	{name: "MTU too small for IPv6", do: "ip link set tulle.1 mtu 1200"},
	{name: "all routes flushed", asleep: true, do: "ip -6 route show proto 116 | while read dst _; do ip route del $dst; done"},
	{name: "a route for all of fd00::/8 when the device is made", do: "ip route add fd00::/8 via $ROUTER; ip link del tulle.1", undo: "ip route del fd00::/8 via $ROUTER"},
}

func TestFaultsOfRows(t *testing.T) {
	t.Parallel()
	sufferAll(t, Options{Nodes: 2, Pods: 1}, subnet.IPv4, rowFaults)
}

// TestFaultsOfRowsIPv6 is of rows of IPv6 over IPv6, on hosts that have rows of
// IPv4 as well.
func TestFaultsOfRowsIPv6(t *testing.T) {
	t.Parallel()
	both := families(t, "46")
	sufferAll(t, Options{Nodes: 2, Pods: 1, Families: both, Underlay: both, Network: []string{"--ipv6-underlay=true"}}, subnet.IPv6, slices.Concat(rowFaults, rowFaults6))
}

// sufferAll does faults to one node after the other that is right again.
func sufferAll(t *testing.T, o Options, family subnet.Family, faults []rowFault) {
	var v victim
	var right string
	for _, f := range faults {
		if v.Host == nil {
			v = newVictimOf(t, up(t, o), family)
			right = rows(t.Context(), v.Host)
		}
		if !t.Run(f.name, func(t *testing.T) { v.suffers(t, f, right) }) {
			v = victim{} // and what comes next begins from a lab that is right
		}
	}
}

// suffers does a fault to the node and checks that it is healed, told and
// counted.
func (v victim) suffers(t *testing.T, f rowFault, right string) {
	log, changes := v.journal(t), metric(t, v.Host, "tulle_kernel_changes_total")
	probe := v.probe(t)
	if f.asleep {
		stopDaemon(t, v.Host, unix.SIGSTOP)
	}
	done := time.Now()
	v.sh(t, f.do)
	if f.asleep {
		stopDaemon(t, v.Host, unix.SIGCONT)
	}
	heals(t, rowsAre(t, v.Host, right))
	took := time.Since(done)
	wantAnswered(t, probe)
	losses := probe.Stop()
	wantRight(t, v.Host)
	if f.undo != "" {
		v.sh(t, f.undo)
		heals(t, rowsAre(t, v.Host, right))
	}
	t.Logf("right after %s; %s", took.Round(time.Millisecond), losses)
	if f.lossless && losses.Lost > 0 {
		t.Errorf("probe: %s, want none lost", losses)
	}
	if f.told != "" {
		log.wantOnce(t, `{"change": "`+v.fill(f.told))
	}
	heals(t, func() error { // one comes some time after the other
		if made, told := metric(t, v.Host, "tulle_kernel_changes_total")-changes, log.changes(t); made == 0 || int(made) != told {
			return fmt.Errorf("%v changes counted in metrics and %d told in the log, want as many, and some:\n%s", made, told, log.text(t))
		}
		return nil
	})
}
