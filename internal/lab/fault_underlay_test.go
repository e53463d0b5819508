package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// TestFaultsOfTheUnderlay changes the device between nodes under the daemon's
// feet. The node's subnet stays in all of it.
func TestFaultsOfTheUnderlay(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	right, key := rows(t.Context(), v.Host), leaseKey(t, v.Host)

	// follows does something to the underlay, and waits until rows is nil and
	// traffic is back.
	follows := func(t *testing.T, do func(), is func() error) {
		t.Helper()
		probe := v.probe(t)
		do()
		done := time.Now()
		heals(t, is)
		took := time.Since(done)
		wantAnswered(t, probe)
		t.Logf("right after %s, traffic after %s; %s", took.Round(time.Millisecond), time.Since(done).Round(time.Millisecond), probe.Stop())
		wantRight(t, v.Host)
		if got := leaseKey(t, v.Host); got != key {
			t.Errorf("the node's subnet became %s, want %s", got, key)
		}
	}
	const backUp = "ip link set eth0 up; ip route replace default via 192.0.2.1\n"

	t.Run("down and up", func(t *testing.T) {
		follows(t, func() { v.sh(t, "ip link set eth0 down; sleep 1; "+backUp) }, rowsAre(t, v.Host, right))
	})
	t.Run("down and up at once", func(t *testing.T) {
		follows(t, func() { v.sh(t, "ip link set eth0 down; "+backUp) }, rowsAre(t, v.Host, right))
	})
	t.Run("no carrier for a while", func(t *testing.T) {
		follows(t, func() {
			for _, to := range []string{"down", "up"} {
				if _, err := l.Host("underlay").Exec(t.Context(), "ip", "link", "set", v.Name, to); err != nil {
					t.Fatal(err)
				}
				time.Sleep(300 * time.Millisecond)
			}
		}, rowsAre(t, v.Host, right))
	})
	t.Run("deleted and made again", func(t *testing.T) {
		log := v.journal(t)
		follows(t, func() {
			v.sh(t, "ip link del eth0; sleep 1")
			if err := l.plug(v.Host); err != nil {
				t.Fatal(err)
			}
		}, rowsAre(t, v.Host, right))
		log.wantOnce(t, "no device for the other nodes any more")
		log.wantOnce(t, "there is a device for the other nodes again")
	})
	t.Run("deleted and made again at once", func(t *testing.T) {
		follows(t, func() {
			v.sh(t, "ip link del eth0")
			if err := l.plug(v.Host); err != nil {
				t.Fatal(err)
			}
		}, rowsAre(t, v.Host, right))
	})
	// at waits for the VXLAN device to be on another device, and for tulled to know.
	at := func(dev string) func() error {
		return func() error {
			if text := rows(t.Context(), v.Host); !strings.Contains(text, " dev "+dev+" srcport ") {
				return fmt.Errorf("%s: tulle.1 is not on %s:\n%s", v.Name, dev, text)
			}
			return v.calm(t)
		}
	}
	t.Run("another name, and the old one again", func(t *testing.T) {
		for _, name := range [][2]string{{"eth0", "wan0.7"}, {"wan0.7", "eth0"}} {
			follows(t, func() {
				v.sh(t, fmt.Sprintf("ip link set %s down; ip link set %[1]s name %s; ip link set %[2]s up; ip route replace default via 192.0.2.1", name[0], name[1]))
			}, at(name[1]))
		}
		heals(t, rowsAre(t, v.Host, right))
	})
	t.Run("put into a bridge, and taken out", func(t *testing.T) {
		move := func(link, from, to string) func() {
			return func() {
				v.sh(t, fmt.Sprintf("%s; ip address del %s/24 dev %s; ip address add %[2]s/24 dev %[4]s; ip route replace default via 192.0.2.1", link, v.Addr(), from, to))
			}
		}
		follows(t, move("ip link add br0 type bridge; ip link set br0 up; ip link set eth0 master br0", "eth0", "br0"), at("br0"))
		follows(t, move("ip link set eth0 nomaster", "br0", "eth0"), at("eth0"))
		v.sh(t, "ip link del br0")
		heals(t, rowsAre(t, v.Host, right))
	})
	t.Run("address changed", func(t *testing.T) {
		log := v.journal(t)
		addr := netip.MustParseAddr("192.0.2.77")
		peer := v.far.host
		change := func(from, to netip.Addr) {
			follows(t, func() {
				v.sh(t, fmt.Sprintf("ip address del %s/24 dev eth0; ip address add %s/24 dev eth0; ip route replace default via 192.0.2.1", from, to))
			}, func() error {
				if !strings.Contains(rows(t.Context(), v.Host), "local "+to.String()+" ") {
					return fmt.Errorf("%s: tulle.1 is not at %s", v.Name, to)
				}
				if got := l.lease(t, v.Host).Addrs[subnet.IPv4]; got != to {
					return fmt.Errorf("the lease in etcd is at %s, want %s", got, to)
				}
				if text := rows(t.Context(), peer); !strings.Contains(text, "dst "+to.String()+" ") {
					return fmt.Errorf("%s: no FDB row to %s:\n%s", peer.Name, to, text)
				}
				return nil
			})
		}
		change(v.Addr(), addr)
		log.wantOnce(t, "underlay changed")
		change(addr, v.Addr())
		heals(t, rowsAre(t, v.Host, right))
		wantRight(t, peer)
	})
	t.Run("MTU changed", func(t *testing.T) {
		for _, mtu := range []int{1400, 9000, 1500} {
			// The pod's device keeps the MTU that it was made with, so the probe is small.
			follows(t, func() { v.sh(t, fmt.Sprintf("ip link set eth0 mtu %d", mtu)) }, func() error {
				file, err := v.Subnet()
				if err == nil && file.MTU != mtu-50 {
					err = fmt.Errorf("the subnet file tells an MTU of %d, want %d", file.MTU, mtu-50)
				}
				if err == nil && !strings.Contains(rows(t.Context(), v.Host), fmt.Sprintf("mtu %d ", mtu-50)) {
					err = fmt.Errorf("tulle.1 has not the MTU %d:\n%s", mtu-50, rows(t.Context(), v.Host))
				}
				return err
			})
		}
		heals(t, rowsAre(t, v.Host, right))
	})
}

// TestStrangersStay puts rows beside tulled's, and in their way.
func TestStrangersStay(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 3, Pods: 1})
	v := newVictim(t, l)
	gone := l.Nodes()[1] // neither the victim nor the one that the probe goes to

	v.sh(t, `
		ip route add 203.0.113.0/24 via 192.0.2.1 proto static
		ip route add $DST via 192.0.2.1 metric 99 proto static
		ip route add $DST via 192.0.2.1 table 99
		ip rule add from 203.0.113.0/24 table 99
		ip nexthop add id 7 via 192.0.2.1 dev eth0 proto static
		ip neigh add 192.0.2.200 lladdr `+stray+` dev eth0 nud permanent
		iptables -A FORWARD -s 203.0.113.0/24 -j DROP
		iptables -t nat -I POSTROUTING -s 203.0.113.0/24 -j RETURN
		nft add table inet mine; nft add chain inet mine c; nft add rule inet mine c ip saddr 203.0.113.0/24 drop
		ip link add mine type vxlan id 77 dstport 8473 dev eth0; ip link set mine up; bridge fdb add `+stray+` dev mine dst 192.0.2.99 self permanent`)
	const theirs = "ip route; ip route show table 99; ip rule; ip nexthop; ip neigh show nud permanent; iptables-save; nft list table inet mine; bridge fdb show dev mine; ip -o link show mine"
	// What is ours is left out: it comes and goes.
	mine := func() string {
		var kept []string
		for line := range strings.Lines(counters.ReplaceAllString(v.sh(t, theirs), "")) {
			if !strings.Contains(line, "tulle.1") && !strings.Contains(line, "TULLE") {
				kept = append(kept, line)
			}
		}
		slices.Sort(kept)
		return strings.Join(kept, "")
	}
	before, probe := mine(), v.probe(t)
	stays := func(when string) {
		t.Helper()
		if now := mine(); now != before {
			t.Errorf("%s: a stranger's rows differ:%s", when, difference(before, now))
		}
	}

	t.Run("a peer that left while the daemon was down is gone after its start", func(t *testing.T) {
		goneAddr, lease := gone.Addr().String(), leaseKey(t, gone)
		stopDaemon(t, v.Host, unix.SIGTERM)
		stopDaemon(t, gone, unix.SIGKILL)
		l.del(t, subnetsDir+lease)
		if !strings.Contains(rows(t.Context(), v.Host), "dst "+goneAddr+" ") {
			t.Fatalf("no FDB row to %s while the daemon is down", goneAddr)
		}
		startReady(t, v.Host)
		dst := strings.ReplaceAll(lease, "-", "/")
		took := heals(t, func() error {
			text := rows(t.Context(), v.Host)
			for _, word := range []string{"dst " + goneAddr + " ", dst + " ", "via " + strings.TrimSuffix(dst, "/24") + " "} {
				if strings.Contains(text, word) {
					return fmt.Errorf("there is still a row with %q:\n%s", word, text)
				}
			}
			return nil
		})
		t.Logf("right %s after the node was ready", took.Round(time.Millisecond))
		wantRight(t, v.Host)
		stays("after a start")
		startReady(t, gone)
		if got := leaseKey(t, gone); got != lease {
			t.Errorf("%s has subnet %s, want %s again", gone.Name, got, lease)
		}
		wantNoneLost(t, probe)
	})
	t.Run("a stranger's rows stay when all of ours are made anew", func(t *testing.T) {
		v.sh(t, "ip link del tulle.1")
		heals(t, func() error {
			if text := rows(t.Context(), v.Host); !strings.Contains(text, "dst "+v.far.host.Addr().String()+" ") {
				return fmt.Errorf("the device is not back:\n%s", text)
			}
			return nil
		})
		stays("after the device was deleted")
	})
	t.Run("a stranger's route where a peer's should be is told and stays", func(t *testing.T) {
		log := v.journal(t)
		stopDaemon(t, v.Host, unix.SIGTERM)
		v.sh(t, "ip route del $DST proto 116; ip route add $DST via 192.0.2.1 proto static")
		if err := v.StartDaemon(t.Context()); err != nil {
			t.Fatal(err)
		}
		heals(t, log.tells(t, "something else put a row there"))
		time.Sleep(3 * time.Second) // it tries again meanwhile
		log.wantOnce(t, "something else put a row there")
		if text := v.sh(t, "ip route show $DST"); !strings.Contains(text, "via 192.0.2.1 dev eth0 proto static \n") {
			t.Errorf("the stranger's route is gone:\n%s", text)
		}
		other := v.lab.lease(t, gone)
		if text := rows(t.Context(), v.Host); !strings.Contains(text, "dst "+other.Addrs[subnet.IPv4].String()+" ") {
			t.Errorf("another peer has no rows:\n%s", text)
		}
		v.sh(t, "ip route del $DST via 192.0.2.1 proto static metric 0")
		took := heals(t, func() error {
			if text := v.sh(t, "ip route show $DST"); !strings.Contains(text, "proto 116") {
				return fmt.Errorf("our route is not back:\n%s", text)
			}
			return nil
		})
		t.Logf("right %s after the stranger's route was gone", took.Round(time.Millisecond))
		heals(t, log.tells(t, "the kernel is as wanted again"))
		stays("after the conflict")
	})
	t.Run("a device put into a bridge is taken out, and the bridge's rows are not ours", func(t *testing.T) {
		log, probe := v.journal(t), v.probe(t)
		v.sh(t, "ip link set tulle.1 master cni0; sleep 0.3")
		wantRight(t, v.Host)
		wantNoneLost(t, probe)
		if text := strings.TrimSpace(log.text(t)); strings.Count(text, "\n") != 0 || !strings.Contains(text, "was link tulle.1 up master cni0") {
			t.Errorf("the log tells of more or less than the link:\n%s", text)
		}
	})
}
