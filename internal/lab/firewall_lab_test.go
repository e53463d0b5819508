package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// TestFirewallSwitched restarts the daemon with the other firewall while pods talk,
// where iptables drops whatever is not let through.
func TestFirewallSwitched(t *testing.T) {
	t.Parallel()
	v := newVictim(t, up(t, Options{Nodes: 2, Pods: 2, Firewall: "iptables"}))
	v.sh(t, "iptables -P FORWARD DROP")
	for _, step := range []struct{ to, gone string }{
		{"nftables", "iptables-save | grep -E 'TULLE-(POSTROUTING|PREROUTING|OUTPUT)'"},
		{"iptables", "nft list table ip tulle 2>/dev/null"},
		{"nftables", "iptables-save | grep -E 'TULLE-(POSTROUTING|PREROUTING|OUTPUT)'"},
		// The daemon finds no reason for iptables: there is no kube-proxy.
		{"auto", "iptables-save | grep -E 'TULLE-(POSTROUTING|PREROUTING|OUTPUT)'"},
	} {
		t.Run("to "+step.to, func(t *testing.T) {
			probe := v.probe(t)
			outside, err := startAsking(t, v.near, addresses[subnet.IPv4].stranger)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.RestartDaemon(t.Context(), unix.SIGTERM, "--firewall="+step.to); err != nil {
				t.Fatal(err)
			}
			wantAnswered(t, probe)
			wantNoneLost(t, probe)
			if err := outside(); err != nil {
				t.Errorf("a connection through the masquerading: %v", err)
			}
			wantRight(t, v.Host)
			if left := v.sh(t, step.gone+" || true"); left != "" {
				t.Errorf("left of the other is\n%s", left)
			}
			if _, err := checkMasquerade(t.Context(), v.lab, subnet.IPv4); err != nil {
				t.Error(err)
			}
		})
	}
}

// startAsking holds a connection from a pod to a host outside. What it returns asks
// by it.
func startAsking(t *testing.T, from *Pod, to netip.Addr) (func() error, error) {
	conn, err := from.Dial(t.Context(), "tcp", netip.AddrPortFrom(to, ServePort).String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return func() error {
		if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		_, err := conn.Read(make([]byte, 1))
		return err
	}, nil
}

//go:embed testdata/firewalld.nft
var firewalldTable string

// firewalldDrop is the table that firewalld has while it reloads.
const firewalldDrop = `table inet firewalld_policy_drop {
	chain filter_input { type filter hook input priority filter + 9; policy drop; ct state { established, related } accept; }
	chain filter_forward { type filter hook forward priority filter + 9; policy drop; ct state { established, related } accept; }
	chain filter_output { type filter hook output priority filter + 9; policy drop; ct state { established, related } accept; }
}`

// ownFiles gives the host folders of its own for what programs keep there.
const ownFiles = `own() { for d; do mkdir -p /run/own$d; cp -a $d/. /run/own$d/; mount --bind /run/own$d $d; done; }
`

// TestHostFirewalls has the firewalls of distributions on a node, which drop what is
// forwarded, and reload while pods talk.
func TestHostFirewalls(t *testing.T) {
	for _, firewall := range []string{"nftables", "iptables"} {
		t.Run(firewall, func(t *testing.T) {
			t.Parallel()
			both := families(t, "46")
			v := newVictim(t, up(t, Options{Nodes: 2, Pods: 1, Families: both, Underlay: both, Firewall: firewall}))
			for _, test := range []struct {
				name            string
				begin           string
				reload          []string // after each step the probe is answered
				end             string
				needs, installs string
			}{
				{
					name:   "ufw",
					begin:  ownFiles + "own /etc/ufw /etc/default; mount -t tmpfs tmpfs /var/log; ufw --force enable",
					reload: []string{"ufw reload", "ufw route deny from 203.0.113.0/24; ufw reload"},
					end:    "ufw disable",
					needs:  "ufw", installs: "ufw",
				},
				{
					name:  "firewalld's rules",
					begin: "nft -f - <<'.'\n" + firewalldTable + "\n.",
					reload: []string{
						"nft -f - <<'.'\n" + firewalldDrop + "\n.",
						"nft -f - <<'.'\ndelete table inet firewalld\n" + firewalldTable + "\n.\nnft delete table inet firewalld_policy_drop",
					},
					end:   "nft delete table inet firewalld",
					needs: "nft", installs: "nftables",
				},
				{
					name: "firewalld",
					begin: ownFiles + `own /etc/firewalld; mkdir -p /run/dbus; mount -t tmpfs tmpfs /var/log
						dbus-daemon --system --fork --nopidfile
						firewalld --nofork --nopid >/run/firewalld.log 2>&1 & echo $! >/run/firewalld.pid
						for i in $(seq 200); do sleep 0.1; firewall-cmd --state >/dev/null 2>&1 && break; done`,
					reload: []string{"firewall-cmd --reload", "firewall-cmd --complete-reload"},
					end:    "kill $(cat /run/firewalld.pid); for i in $(seq 100); do nft list table inet firewalld >/dev/null 2>&1 || break; sleep 0.1; done",
					needs:  "firewalld",
				},
			} {
				t.Run(test.name, func(t *testing.T) {
					if _, err := exec.LookPath(test.needs); err != nil && test.installs == "" {
						t.Skip("firewalld is not installed; its rules are tried without it") // installed, it would start on the machine
					} else if err != nil {
						t.Fatalf("%v; install the package %s", err, test.installs)
					}
					probe := v.probe(t)
					v.sh(t, test.begin)
					wantAnswered(t, probe)
					for _, step := range test.reload {
						v.sh(t, step)
						wantAnswered(t, probe)
					}
					heals(t, func() error { return errors.Join(v.reached(t), v.calm(t)) })
					if found := doctorOf(t, v.Host); len(found) > 0 {
						t.Errorf("pods are reached, and doctor says:\n%s", told(found))
					}
					v.sh(t, test.end)
					wantAnswered(t, probe)
					t.Logf("probe: %s", probe.Stop())
					heals(t, func() error { return errors.Join(v.reached(t), v.calm(t)) })
				})
			}
		})
	}
}

// reached tries new connections: from the node's pod to the other node's and the
// other way round, and to the world.
func (v victim) reached(t *testing.T) error {
	var errs []error
	for _, f := range v.lab.Families.List() {
		for _, way := range []struct {
			from *Place
			to   netip.Addr
		}{
			{&v.near.Place, v.far.Addrs[f].Addr()},
			{&v.far.Place, v.near.Addrs[f].Addr()},
			{&v.near.Place, addresses[f].stranger},
		} {
			_, err := greet(t.Context(), way.from, serveURL(way.to))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// calm fails while the daemon is not content with the kernel.
func (v victim) calm(t *testing.T) error {
	if n := stateOf(t, v.Host); len(n.Difference) > 0 || len(n.Troubles) > 0 {
		return fmt.Errorf("the kernel differs in %q, troubles are %q", n.Difference, n.Troubles)
	}
	return nil
}

// TestStrictReversePath has every device of every node drop what does not come from
// where its answer would go.
func TestStrictReversePath(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 2})
	for _, h := range l.Nodes() {
		text, err := h.Exec(t.Context(), "sh", "-ec", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done; cat /proc/sys/net/ipv4/conf/*/rp_filter")
		if err != nil || strings.Trim(text, "1\n") != "" {
			t.Fatalf("rp_filter is %q, %v", text, err)
		}
	}
	proof, err := l.Prove(t.Context(), func(string) {})
	if err != nil {
		t.Errorf("%v\n%s", err, proof)
	}
	// A program in the host's network that sends from the node's own address, as one
	// that is bound to it, has its answers as well.
	c := l.cast()
	for _, to := range []*Pod{c.near, c.far} {
		if err := askFrom(t.Context(), &c.near.host.Place, c.near.host.Addr(), to.Addr()); err != nil {
			t.Errorf("from the node's address to %s: %v", to.Name, err)
		}
	}
}

// askFrom asks a pod from one of the place's addresses.
func askFrom(ctx context.Context, from *Place, source, to netip.Addr) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		var conn net.Conn
		err := from.Net(func() (err error) {
			d := net.Dialer{Timeout: answerTimeout, LocalAddr: &net.TCPAddr{IP: source.AsSlice()}}
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}}
	_, err := get(ctx, client, serveURL(to))
	return err
}

// tracked counts the connections of a node that are VXLAN, and all.
func tracked(t *testing.T, h *Host) (vxlan, all int) {
	t.Helper()
	err := h.Net(func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer handle.Close()
		flows, err := handle.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, flow := range flows {
			if flow.Forward.Protocol == unix.IPPROTO_UDP && flow.Forward.DstPort == subnet.DefaultPort {
				vxlan++
			}
		}
		all = len(flows)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return vxlan, all
}

// TestVXLANIsNoConnection sends requests by a node port, which kube-proxy marks for
// masquerading, through the overlay. The packets between the nodes bear the mark as
// well, and must not be masqueraded: kernels before 5.7 send them with wrong
// checksums then.
func TestVXLANIsNoConnection(t *testing.T) {
	for _, firewall := range []string{"nftables", "iptables"} {
		t.Run(firewall, func(t *testing.T) {
			t.Parallel()
			l := up(t, Options{Nodes: 2, Pods: 2, Firewall: firewall})
			node := l.Nodes()[0]
			requests := func() (vxlan, all int) {
				t.Helper()
				for range 20 {
					if _, err := checkNodePort(t.Context(), l, subnet.IPv4); err != nil {
						t.Fatal(err)
					}
				}
				return tracked(t, node)
			}
			if vxlan, all := requests(); vxlan != 0 || all < 20 {
				t.Errorf("%d of %d connections are VXLAN, want none, and those of the requests", vxlan, all)
			} else {
				t.Logf("%d connections, none of VXLAN", all)
			}
			// And without our rules they would be.
			if _, err := node.StopDaemon(t.Context(), unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if _, err := node.Exec(t.Context(), "sh", "-c", "nft flush chain ip tulle output; nft flush chain ip tulle prerouting; iptables -t raw -F TULLE-OUTPUT; iptables -t raw -F TULLE-PREROUTING"); err != nil {
				t.Log(err)
			}
			vxlan, all := requests()
			if vxlan == 0 {
				t.Errorf("without our rules, none of %d connections is VXLAN: the test sees nothing", all)
			}
			t.Logf("without our rules, %d of %d connections are VXLAN", vxlan, all)
		})
	}
}

// TestNonMasquerade has the outside host see pods' own addresses, and those of nodes
// again, as the network's configuration says.
func TestNonMasquerade(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 2})
	c := l.cast()
	stranger := addresses[subnet.IPv4].stranger
	pods := netip.PrefixFrom(c.near.Addr(), c.near.Addrs[subnet.IPv4].Bits()).Masked()
	if _, err := l.Host("underlay").Exec(t.Context(), "ip", "route", "add", pods.String(), "via", c.near.host.Addr().String()); err != nil {
		t.Fatal(err)
	}
	source := func(want netip.Addr) {
		t.Helper()
		heals(t, func() error {
			_, err := saw(t.Context(), &c.near.Place, serveURL(stranger), "outside", want)
			return err
		})
	}
	source(c.near.host.Addr())
	flags := l.networkFlags()
	if err := l.SetNetwork(t.Context(), append(flags, "--non-masquerade=198.51.100.0/24, 192.168.0.0/16")...); err != nil {
		t.Fatal(err)
	}
	source(c.near.Addr())
	if err := l.SetNetwork(t.Context(), append(flags, "--non-masquerade=192.168.0.0/16")...); err != nil {
		t.Fatal(err)
	}
	source(c.near.host.Addr())
}
