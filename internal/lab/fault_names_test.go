package lab

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNameOfEtcdIsLost has a node with two devices know etcd by a name, and then
// takes the name away. The device that leads to etcd stays the underlay, also over a
// restart without etcd, and is followed.
func TestNameOfEtcdIsLost(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	addr, port, _ := strings.Cut(strings.TrimPrefix(l.EtcdEndpoints(), "http://"), ":")
	start := func() {
		t.Helper()
		stopDaemon(t, v.Host, unix.SIGTERM)
		if _, err := v.Keep(t.Context(), StartArgs{Name: daemonName, Args: []string{"tulled", "--etcd-endpoints=http://etcd.test:" + port}}); err != nil {
			t.Fatal(err)
		}
		if err := v.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The files are this node's alone, as all that is mounted in it.
	v.sh(t, fmt.Sprintf(`
		echo '%s etcd.test' > /run/hosts; mount --bind /run/hosts /etc/hosts
		echo 'nameserver 192.0.2.250' > /run/resolv; mount --bind /run/resolv /etc/resolv.conf
		ip link add eth9 type veth peer name peer9; ip link set peer9 up; ip address add 203.0.113.9/24 dev eth9; ip link set eth9 up
		ip route replace default via 192.0.2.1 metric 100; ip route del default via 192.0.2.1 metric 0; ip route add default via 203.0.113.1 metric 1`, addr))
	start()
	right := rows(t.Context(), v.Host)
	mtu := func(want int) {
		t.Helper()
		v.sh(t, fmt.Sprintf("ip link set eth0 mtu %d", want))
		heals(t, func() error {
			file, err := v.Subnet()
			if err == nil && file.MTU != want-50 {
				err = fmt.Errorf("the subnet file tells an MTU of %d, want %d", file.MTU, want-50)
			}
			return err
		})
		if s := stateOf(t, v.Host); s.Underlay.Dev != "eth0" {
			t.Errorf("the underlay is %s by now, want eth0", s.Underlay.Dev)
		}
	}

	v.sh(t, ": > /run/hosts")
	mtu(1400)
	if err := l.StopEtcd(t.Context(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	heals(t, func() error { return remembers(v.Host, l.Nodes()) })
	start()
	mtu(1500)
	heals(t, rowsAre(t, v.Host, right))
}
