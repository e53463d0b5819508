package system

import (
	"strings"
	"testing"
)

// TestNetworkManager has NetworkManager look at devices with the names of ours, and
// at others of the same kinds.
func TestNetworkManager(t *testing.T) {
	require(t)
	h := newHost(t, newNetwork(t), "node1", "192.0.2.11")
	h.boot()
	install(t, h, older)
	h.sh(`ip link add tulle.1 type vxlan id 1 dstport 8472 dev eth0
		ip link add cni0 type bridge
		ip link add veth0123456789a type veth peer name control2
		ip link add control0 type bridge
		ip link add control1 type vxlan id 9 dstport 4790 dev eth0
		n=0
		for dev in tulle.1 cni0 veth0123456789a control0 control1 control2; do
			n=$((n + 1))
			ip address add 10.244.$n.1/24 dev $dev
			ip link set $dev up
		done
		systemctl unmask NetworkManager.service
		systemctl start NetworkManager.service`)
	devices := func() map[string]string {
		states := map[string]string{}
		for line := range strings.Lines(h.sh("nmcli -t -f DEVICE,STATE device")) {
			dev, state, _ := strings.Cut(strings.TrimSpace(line), ":")
			states[dev] = state
		}
		return states
	}
	// It takes over what it finds, unless it is told not to.
	h.until("it has taken those of others", func() error {
		states := devices()
		for _, dev := range []string{"control0", "control1"} {
			if !strings.HasPrefix(states[dev], "connected") {
				return errNot(dev + " is " + states[dev])
			}
		}
		return nil
	})
	states := devices()
	for _, dev := range []string{"tulle.1", "cni0", "veth0123456789a"} {
		if states[dev] != "unmanaged" {
			t.Errorf("NetworkManager has %s as %q, want unmanaged; all: %q", dev, states[dev], states)
		}
	}
}
