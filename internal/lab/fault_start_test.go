package lab

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAddressChangesDuringTheStart changes the address of the underlay while the
// start waits for an etcd that can be read and takes no lease.
func TestAddressChangesDuringTheStart(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1})
	v := newVictim(t, l)
	key := leaseKey(t, v.Host)
	heals(t, func() error { return remembers(v.Host, l.Nodes()) })
	from := v.Addr()
	to := from.Next().Next().Next()
	for _, tt := range []struct{ name, before, told string }{
		{"with a state file", "true", "going on from the state file"},
		{"without a state file", "rm " + daemonMemory, "etcd gives no answer, or none that helps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := v.journal(t)
			stopDaemon(t, v.Host, unix.SIGTERM)
			l.del(t, subnetsDir+key)
			v.sh(t, tt.before)
			space := l.fillEtcd(t)
			if err := v.StartDaemon(t.Context()); err != nil {
				t.Fatal(err)
			}
			heals(t, log.tells(t, "etcd gives no answer, or none that helps"))
			heals(t, log.tells(t, tt.told))
			v.sh(t, fmt.Sprintf("ip address del %s/24 dev eth0; ip address add %s/24 dev eth0; ip route replace default via 192.0.2.1", from, to))
			space()
			if err := v.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			heals(t, func() error {
				if text := rows(t.Context(), v.Host); !strings.Contains(text, "local "+to.String()+" ") {
					return fmt.Errorf("tulle.1 is not at %s:\n%s", to, text)
				}
				if kv, _ := l.read(t, subnetsDir+key); !strings.Contains(string(kv.Value), `"PublicIP":"`+to.String()+`"`) {
					return fmt.Errorf("the lease in etcd is not at %s: %s", to, kv.Value)
				}
				return nil
			})
			wantRight(t, v.Host)
			from, to = to, from
		})
	}
}

// TestNetworkChangesDuringTheStart gives the network another family when the start
// has looked at it and not yet taken a lease. The node can't go on with what it has
// opened, and says so to who starts it again.
func TestNetworkChangesDuringTheStart(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	stopDaemon(t, node, unix.SIGTERM)
	l.del(t, subnetsDir+"10.244.193.0-24")
	if _, err := node.Exec(t.Context(), "rm", daemonMemory); err != nil {
		t.Fatal(err)
	}
	log, space := node.journal(t), l.fillEtcd(t)
	if err := node.StartDaemon(t.Context(), "--firewall=iptables"); err != nil {
		t.Fatal(err)
	}
	heals(t, log.tells(t, "etcd gives no answer, or none that helps"))
	l.del(t, configKey)
	space()
	heals(t, log.tells(t, "waiting for a network"))
	if err := l.SetNetwork(t.Context(), "--network=10.244.0.0/16", "--ipv6-network=fd42::/48"); err != nil {
		t.Fatal(err)
	}
	wantExit(t, node)
	log.wantOnce(t, "the network has other families than when this start looked at the host")
	startReady(t, node, "--firewall=iptables")
	wantRight(t, node)
}

// fillEtcd has etcd take no more, as when its disk is full, until what it returns is
// called.
func (l *Lab) fillEtcd(t *testing.T) (space func()) {
	t.Helper()
	var status struct {
		Header struct {
			Member string `json:"member_id"`
		}
	}
	l.etcd(t, "maintenance/status", struct{}{}, &status)
	alarm := func(action string) {
		l.etcd(t, "maintenance/alarm", map[string]string{"action": action, "memberID": status.Header.Member, "alarm": "NOSPACE"}, nil)
	}
	alarm("ACTIVATE")
	return func() { alarm("DEACTIVATE") }
}
