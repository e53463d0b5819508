package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestConfigurationChangesWhileRunning changes the network's configuration, which
// all nodes follow as far as that is possible.
func TestConfigurationChangesWhileRunning(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 3, Pods: 1})
	v := newVictim(t, l)
	var right []string
	for _, h := range l.Nodes() {
		right = append(right, rows(t.Context(), h))
	}
	const network = "--network=10.244.0.0/16"

	for _, tt := range []struct {
		name string
		set  []string
		dev  string // afterwards
		have string // in what ip(8) says of it
		lost bool   // packets may be
	}{
		{name: "MTU", set: []string{"--mtu=1400"}, dev: "tulle.1", have: "mtu 1350 "},
		{name: "UDP port", set: []string{"--port=4789"}, dev: "tulle.1", have: "dstport 4789 ", lost: true},
		{name: "VNI", set: []string{"--vni=42"}, dev: "tulle.42", have: "vxlan id 42 ", lost: true},
		{name: "VNI and UDP port", set: []string{"--vni=43", "--port=4790"}, dev: "tulle.43", have: "dstport 4790 ", lost: true},
		{name: "all as it was", dev: "tulle.1", have: "mtu 1450 ", lost: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			probe := v.probe(t)
			begin := time.Now()
			if err := l.SetNetwork(t.Context(), append(tt.set, network)...); err != nil {
				t.Fatal(err)
			}
			for _, h := range l.Nodes() {
				heals(t, func() error {
					text, err := h.Exec(t.Context(), "ip", "-o", "-d", "link", "show", "type", "vxlan")
					if err == nil && (strings.Count(text, "\n") != 1 || !strings.Contains(text, " "+tt.dev+": ") || !strings.Contains(text, tt.have)) {
						err = fmt.Errorf("%s: want one device %s with %q, have:\n%s", h.Name, tt.dev, tt.have, text)
					}
					return err
				})
			}
			followed := time.Since(begin)
			wantAnswered(t, probe)
			took, losses := time.Since(begin), probe.Stop()
			t.Logf("followed after %s, traffic after %s; %s", followed.Round(time.Millisecond), took.Round(time.Millisecond), losses)
			if !tt.lost && losses.Lost > 0 {
				t.Errorf("probe: %s, want none lost", losses)
			}
			programmed(t, l, nil)
			for _, h := range l.Nodes() {
				wantRight(t, h)
			}
		})
	}
	for i, h := range l.Nodes() {
		heals(t, rowsAre(t, h, right[i]))
	}

	for _, tt := range []struct{ name, value, told string }{
		{"a network that does not hold our subnet", `{"Network":"10.99.0.0/16"}`, "does not fit in it"},
		{"a network of the other family", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd42::/48"}`, "does not fit in it"},
		{"another backend", `{"Network":"10.244.0.0/16","Backend":{"Type":"wireguard"}}`, "wireguard"},
		{"no JSON", `{"Network":`, "not JSON"},
		{"an array", `[]`, "not a JSON object"},
		{"nothing", ``, "not JSON"},
		{"a VNI that there can't be", `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}`, "VNI"},
		{"a network over the underlay", `{"Network":"192.0.2.0/24","SubnetLen":28}`, "does not fit in it"},
		{"an MTU too small for anything", `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","MTU":100}}`, "MTU"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kv, _ := l.read(t, configKey)
			log, probe := v.journal(t), v.probe(t)
			l.put(t, configKey, tt.value)
			heals(t, log.tells(t, tt.told))
			time.Sleep(200 * time.Millisecond)
			for i, h := range l.Nodes() {
				if err := rowsAre(t, h, right[i])(); err != nil {
					t.Error(err)
				}
			}
			l.put(t, configKey, string(kv.Value))
			heals(t, log.tells(t, "the network configuration is followed again"))
			for _, told := range []string{"the network configuration is not followed", "the network configuration is followed again"} {
				log.wantOnce(t, told)
			}
			wantNoneLost(t, probe)
		})
	}
	for _, tt := range []struct{ name, value string }{
		{"does not hold our subnet", `{"Network":"10.99.0.0/16"}`},
		{"is no use", `[]`},
	} {
		t.Run("the address changes while the network "+tt.name, func(t *testing.T) {
			kv, _ := l.read(t, configKey)
			log := v.journal(t)
			l.put(t, configKey, tt.value)
			heals(t, log.tells(t, "the network configuration is not followed"))
			from, to := v.Addr(), v.Addr().Next().Next().Next().Next()
			for range 2 { // there and back
				v.sh(t, fmt.Sprintf("ip address del %s/24 dev eth0; ip address add %s/24 dev eth0; ip route replace default via 192.0.2.1", from, to))
				heals(t, func() error {
					if text := rows(t.Context(), v.far.host); !strings.Contains(text, "dst "+to.String()+" ") {
						return fmt.Errorf("%s: no FDB row to %s:\n%s", v.far.host.Name, to, text)
					}
					return nil
				})
				from, to = to, from
			}
			l.put(t, configKey, string(kv.Value))
			heals(t, log.tells(t, "the network configuration is followed again"))
			for i, h := range l.Nodes() {
				heals(t, rowsAre(t, h, right[i]))
			}
		})
	}
	t.Run("deleted", func(t *testing.T) {
		kv, _ := l.read(t, configKey)
		log, probe := v.journal(t), v.probe(t)
		l.del(t, configKey)
		heals(t, log.tells(t, "the network configuration is not followed"))
		l.put(t, configKey, string(kv.Value))
		heals(t, log.tells(t, "the network configuration is followed again"))
		for i, h := range l.Nodes() {
			if err := rowsAre(t, h, right[i])(); err != nil {
				t.Error(err)
			}
		}
		wantNoneLost(t, probe)
	})
}
