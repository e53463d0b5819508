package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// A second network on the hosts of a lab, as an operator would set it up.
const (
	secondName   = "second" // of the daemon, its files and its pods
	secondPrefix = "/tulle/second"
	secondStatus = "http://127.0.0.1:8472"
	secondList   = `{"cniVersion":"1.0.0","name":"second","plugins":[{"type":"tulle","subnetFile":"/run/tulle/second.env","bridge":"cni1"}]}`
)

var secondFlags = []string{
	"--etcd-prefix=" + secondPrefix, "--subnet-file=/run/tulle/second.env", "--state-dir=/var/lib/tulle/second", "--status-addr=127.0.0.1:8472",
}

// instance starts one more tulled on a host, which it keeps under a name.
func instance(t *testing.T, h *Host, name string, flags ...string) {
	t.Helper()
	args := append([]string{"tulled", "--etcd-endpoints=" + h.lab.EtcdURL()}, flags...)
	if _, err := h.Keep(t.Context(), StartArgs{Name: name, Args: args}); err != nil {
		t.Fatal(err)
	}
}

// second starts the second daemon on all nodes, and attaches a pod of its network on
// each.
func second(t *testing.T, l *Lab, flags ...string) []*Pod {
	t.Helper()
	for _, h := range l.Nodes() {
		startSecond(t, h, flags...)
	}
	var pods []*Pod
	for i, h := range l.Nodes() {
		p := newPod(h, fmt.Sprintf("second%d", i+1))
		p.conflist = secondList
		p, err := l.attach(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	return pods
}

func startSecond(t *testing.T, h *Host, flags ...string) {
	t.Helper()
	instance(t, h, secondName, slices.Concat(secondFlags, flags)...)
	if err := h.waitAnswer(t.Context(), secondName, &h.Place, secondStatus+"/readyz"); err != nil {
		t.Fatal(err)
	}
}

func stopSecond(t *testing.T, h *Host, signal unix.Signal) {
	t.Helper()
	if _, err := h.stop(t.Context(), secondName, signal); err != nil {
		t.Fatal(err)
	}
}

// allThere checks that a node has all rows that it had before.
func allThere(t *testing.T, h *Host, before string) {
	t.Helper()
	now := strings.Split(rows(t.Context(), h), "\n")
	for line := range strings.SplitSeq(before, "\n") {
		if !slices.Contains(now, line) {
			t.Errorf("%s: the row %q is gone; there are\n%s", h.Name, line, strings.Join(now, "\n"))
		}
	}
}

// TestTwoNetworks has two daemons on each host, and does to one of them what must
// not disturb the other.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct routes %t", direct), func(t *testing.T) { twoNetworks(t, direct) })
	}
}

func twoNetworks(t *testing.T, direct bool) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1, Direct: direct})
	first := newVictim(t, l)
	node := first.Host
	alone := rows(t.Context(), node)
	log := node.journal(t)
	if err := l.SetNetwork(t.Context(), "--etcd-prefix="+secondPrefix, "--network=10.99.0.0/16", "--vni=2", fmt.Sprintf("--direct-routing=%t", direct)); err != nil {
		t.Fatal(err)
	}
	// silent checks that the first daemon had nothing to do and lost nothing.
	silent := func(t *testing.T, do func()) {
		t.Helper()
		log, probe := node.journal(t), first.probe(t)
		do()
		wantNoneLost(t, probe)
		allThere(t, node, alone)
		if text := log.text(t); text != "" {
			t.Errorf("the first daemon had something to do:\n%s", text)
		}
		wantRight(t, node)
	}
	var others []*Pod
	silent(t, func() {
		others = second(t, l)
		wayTo(t, node, others[1], map[bool]string{false: "dev tulle.2 ", true: "via 192.0.2.12 dev eth0 "}[direct])
	})
	wantWhole(t, l) // between the networks as well
	both := rows(t.Context(), node)
	if text := log.text(t); text != "" {
		t.Errorf("the first daemon had something to do when the second came:\n%s", text)
	}
	secondProbe := func() *Probe {
		p := probing(t, others[0], others[1])
		wantAnswered(t, p)
		return p
	}

	t.Run("the second is stopped and started again", func(t *testing.T) {
		silent(t, func() {
			probe := secondProbe()
			stopSecond(t, node, unix.SIGTERM)
			startSecond(t, node)
			stopSecond(t, node, unix.SIGKILL)
			startSecond(t, node)
			wantNoneLost(t, probe)
		})
		heals(t, rowsAre(t, node, both))
	})
	t.Run("the first is stopped and started again", func(t *testing.T) {
		log := node.journalOf(t, secondName)
		probe, own := secondProbe(), first.probe(t)
		stopDaemon(t, node, unix.SIGTERM)
		startReady(t, node)
		stopDaemon(t, node, unix.SIGKILL)
		startReady(t, node)
		wantNoneLost(t, probe)
		wantNoneLost(t, own)
		if text := log.text(t); text != "" {
			t.Errorf("the second daemon had something to do:\n%s", text)
		}
		heals(t, rowsAre(t, node, both))
	})
	t.Run("the second starts while the first is stopped", func(t *testing.T) {
		probe := first.probe(t)
		stopSecond(t, node, unix.SIGTERM)
		stopDaemon(t, node, unix.SIGTERM)
		startSecond(t, node)
		allThere(t, node, both)
		startReady(t, node)
		wantNoneLost(t, probe)
		heals(t, rowsAre(t, node, both))
	})
	t.Run("faults of the second's rows", func(t *testing.T) {
		silent(t, func() {
			first.sh(t, `
				ip link del tulle.2
				nft delete table inet tulle.2 2>/dev/null || true
				table=$(nft list tables | grep 'table ip tulle-')
				nft delete $table
				for chain in $(iptables -S | sed -n 's/^-N \(TULLE-FORWARD-.*\)/\1/p'); do iptables -F $chain; iptables -D FORWARD -j $chain; done
				ip route del 10.99.254.0/24 2>/dev/null || true
				ip route add 10.99.254.0/24 via 192.0.2.1 proto 116`)
			heals(t, rowsAre(t, node, both))
			heals(t, func() error {
				_, err := node.Exec(t.Context(), "sh", "-c", "nft list ruleset | grep -A20 'table ip tulle-' | grep masquerade")
				return err
			})
			probe := secondProbe()
			wantNoneLost(t, probe)
		})
	})
	t.Run("the second works with the other firewall", func(t *testing.T) {
		silent(t, func() {
			probe := secondProbe()
			stopSecond(t, node, unix.SIGTERM)
			startSecond(t, node, "--firewall=iptables")
			first.sh(t, `iptables-save -t nat | grep -q 'POSTROUTING -j TULLE-POSTROUTING-'; ! nft list tables | grep 'table ip tulle-'; nft list tables | grep -q 'table ip tulle$'`)
			stopSecond(t, node, unix.SIGTERM)
			startSecond(t, node)
			wantNoneLost(t, probe)
		})
		heals(t, rowsAre(t, node, both))
	})
	t.Run("the second's configuration changes", func(t *testing.T) {
		silent(t, func() {
			for _, set := range [][]string{{"--vni=3"}, {"--backend=host-gw"}, {"--vni=2", fmt.Sprintf("--direct-routing=%t", direct)}} {
				if err := l.SetNetwork(t.Context(), append(set, "--etcd-prefix="+secondPrefix, "--network=10.99.0.0/16")...); err != nil {
					t.Fatal(err)
				}
				way := "dev tulle." + set[0][len(set[0])-1:] + " "
				if direct && len(set) == 2 || strings.Contains(set[0], "host-gw") {
					way = "via 192.0.2.12 dev eth0 "
				}
				wayTo(t, node, others[1], way)
				wayTo(t, others[1].host, others[0], strings.Replace(way, "192.0.2.12", "192.0.2.11", 1))
				secondProbe().Stop()
			}
		})
		heals(t, rowsAre(t, node, both))
	})
	t.Run("a configuration that would disturb the first is not followed", func(t *testing.T) {
		silent(t, func() {
			log := node.journalOf(t, secondName)
			probe := secondProbe()
			l.put(t, secondPrefix+"/config", `{"Network":"10.99.0.0/16","Backend":{"VNI":1}}`)
			heals(t, log.tells(t, "another tulled of this host has the device tulle.1"))
			wantNoneLost(t, probe)
			if err := l.SetNetwork(t.Context(), "--vni=2", fmt.Sprintf("--direct-routing=%t", direct), "--etcd-prefix="+secondPrefix, "--network=10.99.0.0/16"); err != nil {
				t.Fatal(err)
			}
			heals(t, log.tells(t, "the network configuration is followed again"))
		})
		heals(t, rowsAre(t, node, both))
	})
	for _, tt := range []struct {
		name, network, told string
		flags               []string
	}{
		{"one more with the same prefix", "", "another tulled of this host serves the network at /tulle/network; stop it first", []string{"--subnet-file=/run/x/subnet.env", "--state-dir=/run/x"}},
		{"one more with the same subnet file", "", "another tulled of this host has the file /run/../run/tulle/subnet.env", []string{"--etcd-prefix=/tulle/third", "--subnet-file=/run/../run/tulle/subnet.env", "--state-dir=/run/x"}},
		{"one more with the same state", "", "another tulled of this host has the file /var/lib/tulle/state.json", []string{"--etcd-prefix=/tulle/third", "--subnet-file=/run/x/subnet.env"}},
		{"one more with the same VNI", `{"Network":"10.77.0.0/16","Backend":{"VNI":1}}`, "another tulled of this host has the device tulle.1; choose another VNI", []string{"--etcd-prefix=/tulle/third", "--subnet-file=/run/x/subnet.env", "--state-dir=/run/x"}},
		{"one more with pods of the same addresses", `{"Network":"10.99.128.0/17","Backend":{"VNI":7}}`, "the network 10.99.128.0/17 overlaps 10.99.0.0/16", []string{"--etcd-prefix=/tulle/third", "--subnet-file=/run/x/subnet.env", "--state-dir=/run/x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			silent(t, func() {
				if tt.network != "" {
					l.put(t, "/tulle/third/config", tt.network)
				}
				instance(t, node, "third", append(tt.flags, "--status-addr=")...)
				ctx, cancel := context.WithTimeoutCause(t.Context(), healTime, errors.New("it still runs"))
				defer cancel()
				s, err := node.Wait(ctx, "third")
				text, readErr := os.ReadFile(node.Log("third"))
				if err := errors.Join(err, readErr); err != nil {
					t.Fatal(err)
				}
				if s.Exit != "exit status 1" || !strings.Contains(string(text), tt.told) {
					t.Errorf("%s with the log\n%s\nwant exit status 1 and %q", s.Exit, text, tt.told)
				}
			})
			heals(t, rowsAre(t, node, both))
		})
	}
	t.Run("the second is taken away", func(t *testing.T) {
		silent(t, func() {
			for _, p := range others {
				if err := l.RemovePod(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				stopSecond(t, p.host, unix.SIGTERM)
				text, err := p.host.Exec(t.Context(), append([]string{"tulled", "--cleanup"}, secondFlags...)...)
				if err != nil {
					t.Fatal(err)
				}
				t.Log(text)
			}
		})
		heals(t, rowsAre(t, node, alone))
		first.sh(t, `! ip -o link | grep -e tulle.2 -e cni1; ! nft list tables | grep tulle.2; ! ls /run/tulle/second.env /var/lib/tulle/second; ls /run/tulle/subnet.env`)
		wantWhole(t, l)
	})
}

// TestTwoNetworksOfPlainRoutes has no device that tells their rows apart.
func TestTwoNetworksOfPlainRoutes(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1, Backend: subnet.HostGW})
	first := newVictim(t, l)
	node := first.Host
	alone := rows(t.Context(), node)
	if err := l.SetNetwork(t.Context(), "--etcd-prefix="+secondPrefix, "--network=10.99.0.0/16", "--backend=host-gw"); err != nil {
		t.Fatal(err)
	}
	const meshPort = "--mesh-port=9473" // each is asked at the node's own address
	log, probe := node.journal(t), first.probe(t)
	others := second(t, l, meshPort)
	wayTo(t, node, others[1], "via 192.0.2.12 dev eth0 ")
	wayTo(t, others[1].host, others[0], "via 192.0.2.11 dev eth0 ")
	wantWhole(t, l) // between the networks as well
	both := rows(t.Context(), node)
	for range 2 {
		other := probing(t, others[0], others[1])
		wantAnswered(t, other)
		stopSecond(t, node, unix.SIGKILL)
		startSecond(t, node, meshPort)
		wantNoneLost(t, other)
		allThere(t, node, both)
	}
	first.sh(t, "ip nexthop flush proto 116") // of both
	heals(t, rowsAre(t, node, both))
	wantAnswered(t, probe)
	lost := probe.Stop()
	t.Logf("after all routes were flushed: %s", lost)
	if text := log.text(t); strings.Contains(text, "10.99.") {
		t.Errorf("the first daemon had to do with rows of the second:\n%s", text)
	}
	probe = first.probe(t)
	for _, p := range others {
		if err := l.RemovePod(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		stopSecond(t, p.host, unix.SIGTERM)
		if _, err := p.host.Exec(t.Context(), append([]string{"tulled", "--cleanup"}, secondFlags...)...); err != nil {
			t.Fatal(err)
		}
	}
	wantNoneLost(t, probe)
	heals(t, rowsAre(t, node, alone))
	wantWhole(t, l)
}
