package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/internal/doctor"
	"tulle/internal/trace"
	"tulle/subnet"
)

// doctorOf runs tullectl doctor on a host.
func doctorOf(t *testing.T, h *Host, flags ...string) []doctor.Finding {
	t.Helper()
	text, err := h.Exec(t.Context(), append([]string{"tullectl", "doctor", "--json"}, flags...)...)
	var found []doctor.Finding
	if jsonErr := json.Unmarshal([]byte(text), &found); jsonErr != nil {
		t.Fatalf("%s: tullectl doctor: %v: %v:\n%s", h.Name, err, jsonErr, text)
	}
	if failed := err != nil; failed != (len(found) > 0) {
		t.Errorf("%s: tullectl doctor with %d findings ended with %v", h.Name, len(found), err)
	}
	return found
}

func ids(found []doctor.Finding) []string {
	var list []string
	for _, f := range found {
		if !slices.Contains(list, f.ID) {
			list = append(list, f.ID)
		}
	}
	slices.Sort(list)
	return list
}

// doctorFault is something wrong with a host, which doctor must name there.
type doctorFault struct {
	name     string
	do, undo string                          // shell scripts on the node
	far      bool                            // they are for the far pod's node
	below    bool                            // they are for the host underlay
	stopped  bool                            // tulled is stopped meanwhile, which would mend it
	act      func(*testing.T, victim) func() // instead of do and undo: does it, and returns what undoes it
	flags    []string                        // of doctor
	want     []string                        // ids of findings: these and no others
	may      []string                        // ids of findings that may follow from the fault
	or       []string                        // what it says instead where the kernel has given up asking for a neighbour
	words    []string                        // in the text or the command of one of them
	mends    bool                            // the first finding's command undoes it all
}

const quiet = "tulled-silent" // what doctor says besides where tulled is stopped

var doctorFaults = []doctorFault{
	{name: "tulled is stopped", stopped: true, want: []string{quiet}, words: []string{"systemctl start tulled"}},
	{name: "a stranger's route in the place of ours", do: "ip route replace $DST via 192.0.2.1 proto static", undo: "ip route del $DST via 192.0.2.1", want: []string{"kernel-differs", "way"}, words: []string{"ip route del"}},
	{name: "a more exact route than ours", do: "ip route add $HALF via 192.0.2.1 proto static", undo: "ip route del $HALF", want: []string{"way"}, words: []string{"another route leads", "/25 dev eth0 table main"}, mends: true},
	{name: "a blackhole in another table", do: "ip route add blackhole $DST table 99; ip rule add to $DST table 99 pref 50", undo: "ip rule del pref 50; ip route flush table 99", want: []string{"way"}, words: []string{"ip route del blackhole"}},
	{name: "a route to the other node by another device", do: "ip link add dev9 type veth peer name dev8; ip link set dev8 up; ip link set dev9 up; ip route add $PEER dev dev9", undo: "ip link del dev9", want: []string{"peer-silent", "underlay-other"}, or: []string{"way"}, words: []string{"dev9"}},
	{name: "forwarding off", stopped: true, do: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", want: []string{"forwarding", quiet}, words: []string{"sysctl -w net.ipv4.ip_forward=1"}},
	{name: "forwarding of the pods' bridge off", do: "sysctl -qw net.ipv4.conf.cni0.forwarding=0", undo: "sysctl -qw net.ipv4.conf.cni0.forwarding=1", want: []string{"forwarding"}, words: []string{"net.ipv4.conf.cni0.forwarding=1"}, mends: true},
	{name: "bridges hide from netfilter", stopped: true, do: "sysctl -qw net.bridge.bridge-nf-call-iptables=0", undo: "sysctl -qw net.bridge.bridge-nf-call-iptables=1", want: []string{"bridge-netfilter", quiet}, words: []string{"net.bridge.bridge-nf-call-iptables=1"}},
	{name: "strict rp_filter and another way back", do: "sysctl -qw net.ipv4.conf.cni0.rp_filter=1; ip route add $NEAR dev eth0", undo: "ip route del $NEAR; sysctl -qw net.ipv4.conf.cni0.rp_filter=0", want: []string{"way", "way-back"}, words: []string{"rp_filter of cni0", "sysctl -w net.ipv4.conf.cni0.rp_filter=2"}},
	{name: "iptables drops what is forwarded, before our jump", do: "iptables -t mangle -A FORWARD -s 10.244.0.0/16 -j DROP", undo: "iptables -t mangle -F FORWARD", want: []string{"rule-drops"}, words: []string{"iptables -t mangle -D FORWARD -s 10.244.0.0/16 -j DROP"}, mends: true},
	{name: "nftables drops what is forwarded", do: "nft 'add table inet firewall; add chain inet firewall forward { type filter hook forward priority 0; policy drop; }; add rule inet firewall forward ct state established,related accept'", undo: "nft delete table inet firewall", want: []string{"rule-drops"}, words: []string{"nft chain inet firewall forward '{ policy accept; }'"}, mends: true},
	{name: "nftables drops VXLAN that comes", do: "nft 'add table inet firewall; add chain inet firewall input { type filter hook input priority 0; }; add rule inet firewall input udp dport 8472 drop'", undo: "nft delete table inet firewall", want: []string{"rule-drops", "tunnel-blocked"}, words: []string{"nft delete rule inet firewall input handle"}},
	{name: "iptables drops VXLAN that goes", do: "iptables -A OUTPUT -p udp --dport 8472 -j REJECT", undo: "iptables -F OUTPUT", want: []string{"rule-drops"}, words: []string{"iptables -t filter -D OUTPUT -p udp"}},
	{name: "a firewall that lets in what it knows", do: "nft 'add table inet firewall; add chain inet firewall input { type filter hook input priority 0; policy drop; }; add rule inet firewall input ct state vmap { established : accept, related : accept, invalid : drop }; add rule inet firewall input iifname lo accept; add rule inet firewall input icmp type echo-request accept; add rule inet firewall input tcp dport { 22, 80 } accept'", undo: "nft delete table inet firewall", want: []string{"rule-drops", "tunnel-blocked"}, words: []string{"nft chain inet firewall input '{ policy accept; }'"}, mends: true},
	{name: "a device drops VXLAN before all others", do: "nft 'add table netdev early; add chain netdev early in { type filter hook ingress device eth0 priority 0; }; add rule netdev early in udp dport 8472 drop'", undo: "nft delete table netdev early", want: []string{"rule-drops", "tunnel-blocked"}, words: []string{"nft delete rule netdev early in handle"}, mends: true},
	{name: "the bridge drops what pods send", do: "nft 'add table bridge frames; add chain bridge frames in { type filter hook prerouting priority 0; }; add rule bridge frames in ip saddr 10.244.0.0/16 drop'", undo: "nft delete table bridge frames", want: []string{"rule-drops"}, words: []string{"nft delete rule bridge frames in handle"}, mends: true},
	{name: "a rule keeps tullectl from tulled", do: "iptables -I INPUT -i lo -p tcp --dport 8471 -j DROP", undo: "iptables -D INPUT -i lo -p tcp --dport 8471 -j DROP", want: []string{"rule-drops", "tulled-silent"}, words: []string{"what asks tulled", "iptables -t filter -D INPUT -i lo"}},
	{name: "a policy rule refuses what pods send", do: "ip rule add from 10.244.0.0/16 prohibit pref 40", undo: "ip rule del pref 40", want: []string{"way"}, words: []string{"mend ip rule del pref 40"}, mends: true},
	{name: "a policy rule leads to another table", do: "ip route add default via 192.0.2.1 table 99; ip rule add from 10.244.0.0/16 table 99 pref 50", undo: "ip rule del pref 1; ip rule del pref 50; ip route flush table 99", want: []string{"way"}, words: []string{"to table 99", "ip rule add to 10.244.0.0/16 lookup main pref 1"}, mends: true},
	{name: "a device has an address of another node's pods", do: "ip address add $STRAY/24 dev eth0", undo: "ip address del $STRAY/24 dev eth0", want: []string{"address-of-pods"}, words: []string{"mend ip address del 10.244."}, mends: true},
	{name: "this host has the address of another node's pod", do: "ip address add $FARPOD/32 dev lo", undo: "ip address del $FARPOD/32 dev lo", want: []string{"address-of-pods"}, words: []string{"dev lo; or choose another Network"}, mends: true},
	{name: "the other node drops VXLAN", far: true, do: "iptables -t mangle -A PREROUTING -p udp --dport 8472 -j DROP", undo: "iptables -t mangle -F PREROUTING", want: []string{"tunnel-blocked"}, words: []string{"UDP port 8472 does not pass"}},
	{name: "the other node is off the network", below: true, do: "ip link set $FARPORT down", undo: "ip link set $FARPORT up", want: []string{"peer-silent"}, words: []string{"answers neither"}},
	{name: "a device on the way has a smaller MTU", below: true, do: "ip link set $FARPORT mtu 1300", undo: "ip link set $FARPORT mtu 1500; ip link set underlay mtu 1500", want: []string{"mtu-hole"}, words: []string{"bytes arrive and of 1450 do not", "--mtu 130"}},
	{name: "this host's device has a smaller MTU", stopped: true, do: "ip link set eth0 mtu 1400", undo: "ip link set eth0 mtu 1500", want: []string{quiet, "mtu-hole", "underlay-mtu"}, words: []string{"eth0 leaves it 1350"}},
	{name: "another host has this one's address", below: true, do: "ip address add $SELF/32 dev underlay", undo: "ip address del $SELF/32 dev underlay", want: []string{"address-twice"}, may: []string{"etcd-silent", "etcd-lease"}, words: []string{"arping"}},
	{name: "the neighbour row is gone", stopped: true, do: "ip neigh del $GW dev tulle.1", want: []string{quiet, "way"}, words: []string{"no neighbour row"}},
	{name: "the FDB row is gone", stopped: true, do: "bridge fdb del $MAC dev tulle.1 dst $PEER", want: []string{quiet, "way"}, words: []string{"no FDB row"}},
	{name: "the route is gone", stopped: true, do: "ip route del $DST", want: []string{quiet, "way"}, words: []string{"is missing"}},
	{name: "the overlay's device is down", stopped: true, do: "ip link set tulle.1 down", want: []string{quiet, "way"}, words: []string{"ip link set tulle.1 up"}},
	{name: "flannel's device is left", do: "ip link add flannel.1 type vxlan id 1 dstport 8473 dev eth0", undo: "ip link del flannel.1", want: []string{"other-network"}, words: []string{"left of flannel", "ip link del flannel.1"}},
	{name: "Calico's device is left", do: "ip link add cali0123456789a type bridge", undo: "ip link del cali0123456789a", want: []string{"other-network"}, words: []string{"Calico"}},
	{name: "another device has our VNI and port", stopped: true, do: "ip link del tulle.1; ip link add other type vxlan id 1 dstport 8472 dev eth0", undo: "ip link del other", want: []string{quiet, "vxlan-clash", "way"}, words: []string{"ip link del other"}},
	{name: "the bridge has another network's address", do: "ip address add 10.88.0.1/16 dev cni0", undo: "ip address del 10.88.0.1/16 dev cni0", want: []string{"bridge-address"}, words: []string{"10.88.0.1/16"}, mends: true},
	{name: "the bridge lacks its address", do: "ip address del $BRIDGE/24 dev cni0", undo: "ip address add $BRIDGE/24 dev cni0", want: []string{"bridge-address"}, words: []string{"ip address add"}, mends: true},
	{name: "the bridge is down", do: "ip link set cni0 down", undo: "ip link set cni0 up", want: []string{"bridge-down"}, words: []string{"ip link set cni0 up"}, mends: true},
	{name: "a pod's port is blocked", do: "bridge link set dev $VETH state 0", undo: "bridge link set dev $VETH state 3", want: []string{"pod-port"}, words: []string{"state 3"}, mends: true},
	{name: "a pod's port was taken from the bridge", do: "ip link set $VETH nomaster", undo: "ip link set $VETH master cni0; bridge link set dev $VETH hairpin on", want: []string{"pod-port"}, words: []string{"mend ip link set veth"}, mends: true},
	{name: "a pod's own device is down", act: func(t *testing.T, v victim) func() {
		pod := func(script string) {
			t.Helper()
			if text, err := v.near.Exec(t.Context(), "sh", "-ec", script); err != nil {
				t.Fatalf("%s: %v: %s", v.near.Name, err, text)
			}
		}
		pod("ip link set eth0 down")
		return func() { pod("ip link set eth0 up; ip route add default via " + v.vars["BRIDGE"]) }
	}, want: []string{"pod-port"}, words: []string{"no carrier"}},
	{name: "a pod's MTU is too large", do: "ip link set $VETH mtu 1500", undo: "ip link set $VETH mtu 1450; ip link set cni0 mtu 1450", want: []string{"pod-mtu"}, words: []string{"start the pod anew"}},
	{name: "no CNI configuration", do: runtimeThere, undo: runtimeGone, want: []string{"cni-none"}, words: []string{"10-tulle.conflist"}},
	{name: "another network's CNI configuration", do: runtimeThere + `echo '{"name":"x","plugins":[{"type":"flannel"}]}' > /etc/cni/net.d/10-flannel.conflist`, undo: runtimeGone, want: []string{"cni-other"}, words: []string{"10-flannel.conflist"}},
	{name: "another CNI configuration before ours", do: runtimeThere + `echo '{"name":"x","plugins":[{"type":"bridge"}]}' > /etc/cni/net.d/00-other.conflist; echo '{"name":"tulle","plugins":[{"type":"tulle"}]}' > /etc/cni/net.d/10-tulle.conflist`, undo: runtimeGone, want: []string{"cni-other", "cni-plugin"}, words: []string{"remove /etc/cni/net.d/00-other.conflist"}},
	{name: "a CNI configuration that is no JSON", do: runtimeThere + `echo '{' > /etc/cni/net.d/00-broken.conflist; echo '{"name":"tulle","plugins":[{"type":"tulle"}]}' > /etc/cni/net.d/10-tulle.conflist`, undo: runtimeGone, want: []string{"cni-broken", "cni-plugin"}, words: []string{"not JSON"}},
	{name: "the state directory is full", do: "mount -t tmpfs -o size=64k none /var/lib/tulle", undo: "umount /var/lib/tulle", want: []string{"disk"}, words: []string{"is on a full file system"}},
	{name: "the state directory is read-only", do: "mount -t tmpfs -o ro none /var/lib/tulle", undo: "umount /var/lib/tulle", want: []string{"disk"}, words: []string{"read-only"}},
	{name: "the subnet file is gone", stopped: true, do: "rm /run/tulle/subnet.env", want: []string{"subnet-file", quiet}},
	{name: "a lease with this host's address", act: func(t *testing.T, v victim) func() {
		v.lab.put(t, subnetsDir+"10.244.99.0-24", `{"PublicIP":"192.0.2.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"},"Node":"twin"}`)
		return func() { v.lab.del(t, subnetsDir+"10.244.99.0-24") }
	}, want: []string{"address-of-peer"}, words: []string{"twin"}},
	{name: "a lease of another VNI", act: func(t *testing.T, v victim) func() {
		v.lab.put(t, subnetsDir+"10.244.99.0-24", `{"PublicIP":"192.0.2.99","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":9,"VtepMAC":"02:00:00:00:00:77"},"Node":"stray"}`)
		return func() { v.lab.del(t, subnetsDir+"10.244.99.0-24") }
	}, want: []string{"peer-left-out"}, words: []string{"its VNI is 9"}},
	{name: "a key that is no lease", act: func(t *testing.T, v victim) func() {
		v.lab.put(t, subnetsDir+"rubbish", "x")
		return func() { v.lab.del(t, subnetsDir+"rubbish") }
	}, want: []string{"key-no-lease"}, words: []string{"etcdctl del '/tulle/network/subnets/rubbish'"}},
	{name: "a Network that can't be followed", act: func(t *testing.T, v victim) func() {
		kv, _ := v.lab.read(t, configKey)
		v.lab.put(t, configKey, `{"Network":"10.99.0.0/16"}`)
		return func() { v.lab.put(t, configKey, string(kv.Value)) }
	}, want: []string{"trouble"}, words: []string{"does not fit in it"}},
	{name: "a Network that is not valid", act: func(t *testing.T, v victim) func() {
		kv, _ := v.lab.read(t, configKey)
		v.lab.put(t, configKey, `{`)
		return func() { v.lab.put(t, configKey, string(kv.Value)) }
	}, want: []string{"etcd-no-network", "trouble"}, words: []string{"tullectl network set"}},
	{name: "a device makes wrong checksums", act: wrongChecksums, want: []string{"checksum"}, words: []string{"ethtool -K tulle.1"}},
	{name: "etcd does not answer", act: func(t *testing.T, v victim) func() {
		if err := v.lab.StopEtcd(t.Context(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := v.lab.StartEtcd(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
	}, want: []string{"etcd-silent"}, words: []string{"connection refused"}},
}

// A container runtime, as far as doctor looks for one, and its folder.
const (
	runtimeThere = "mkdir -p /run/containerd /run/net.d; touch /run/containerd/containerd.sock; mount --bind /run/net.d /etc/cni/net.d\n"
	runtimeGone  = "umount /etc/cni/net.d; rm -r /run/containerd /run/net.d"
)

// TestDoctor injects faults one by one. Doctor must name each, say nothing else,
// and nothing at all before and after.
func TestDoctor(t *testing.T) {
	t.Parallel()
	const labs = 4 // at a time, for each fault takes its seconds
	for n := range labs {
		t.Run(fmt.Sprintf("lab %d", n+1), func(t *testing.T) {
			t.Parallel()
			var v victim
			var right string
			for i, f := range doctorFaults {
				if i%labs != n {
					continue
				}
				if v.Host == nil {
					v = newPatient(t)
					right = rows(t.Context(), v.Host)
					wantHealthy(t, v.lab)
				}
				if !t.Run(f.name, func(t *testing.T) { v.examined(t, f, right) }) {
					v = victim{} // and what comes next begins from a lab that is right
				}
			}
		})
	}
}

// newPatient is a victim, with variables for the faults that doctor is to name.
func newPatient(t *testing.T) victim {
	t.Helper()
	v := newVictim(t, up(t, Options{Nodes: 2, Pods: 1}))
	for name, value := range map[string]string{
		"SELF": v.Addr().String(), "FARPORT": v.far.host.Name, "NEAR": v.near.Addr().String(), "VETH": v.vethOf(t),
		"BRIDGE": subnet.Bridge(v.lab.lease(t, v.near.host).Subnets[subnet.IPv4]).Addr().String(),
		"FARPOD": v.far.Addr().String(), "STRAY": v.far.Addr().String() + "00",
		"HALF": strings.Replace(v.vars["DST"], "/24", "/25", 1),
	} {
		v.vars[name] = value
	}
	return v
}

// vethOf is the host's end of the near pod's veth.
func (v victim) vethOf(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(v.sh(t, "ls /sys/class/net/cni0/brif | head -n 1"))
}

// wantHealthy checks that doctor finds nothing on any node, and ends with 0.
func wantHealthy(t *testing.T, l *Lab) {
	t.Helper()
	for _, h := range l.Nodes() {
		if found := doctorOf(t, h); len(found) > 0 {
			t.Errorf("%s: a healthy node, and doctor says %+v", h.Name, found)
		}
	}
}

// examined does a fault to the node, checks what doctor says, and undoes it.
func (v victim) examined(t *testing.T, f doctorFault, right string) {
	at := v
	if f.far {
		at.Host = v.far.host
	}
	if f.below {
		at.Host = v.lab.Host("underlay")
	}
	if f.stopped {
		stopDaemon(t, v.Host, unix.SIGTERM)
	}
	undo := func() { at.sh(t, f.undo) }
	if f.act != nil {
		undo = f.act(t, v)
		heals(t, func() error { // tulled hears of it
			if got := ids(doctorOf(t, v.Host, f.flags...)); !slices.Equal(got, f.want) {
				return fmt.Errorf("doctor says %s, want %s", got, f.want)
			}
			return nil
		})
	} else {
		at.sh(t, f.do)
	}
	found := doctorOf(t, v.Host, f.flags...)
	found = slices.DeleteFunc(found, func(one doctor.Finding) bool { return slices.Contains(f.may, one.ID) })
	slices.Sort(f.want)
	if got := ids(found); !slices.Equal(got, f.want) && (f.or == nil || !slices.Equal(got, f.or)) {
		t.Errorf("doctor says %s, want %s:\n%s", got, f.want, told(found))
	}
	for _, words := range f.words {
		if !strings.Contains(told(found), words) {
			t.Errorf("doctor does not say %q:\n%s", words, told(found))
		}
	}
	if f.mends && len(found) > 0 {
		mend, _, _ := strings.Cut(found[0].Mend, "; or ")
		mend, _, _ = strings.Cut(mend, "; ip rule show")
		at.sh(t, mend)
		heals(t, func() error {
			if left := doctorOf(t, v.Host, f.flags...); len(left) > 0 {
				return fmt.Errorf("after %q doctor still says:\n%s", mend, told(left))
			}
			return nil
		})
		undo = func() { _, _ = at.ExecInput(t.Context(), at.fill(f.undo), "sh") } // what is left of it
	}
	undo()
	if f.stopped {
		startReady(t, v.Host)
	}
	heals(t, rowsAre(t, v.Host, right))
	heals(t, func() error {
		if found := doctorOf(t, v.Host, f.flags...); len(found) > 0 {
			return fmt.Errorf("undone, and doctor still says:\n%s", told(found))
		}
		return nil
	})
}

func told(found []doctor.Finding) string {
	var b strings.Builder
	if err := doctor.Write(&b, found, false); err != nil {
		panic(err) // a string's builder
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// TestDoctorAsksForRights: what etcd lets a user do is told apart.
func TestDoctorAsksForRights(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1})
	node := l.Nodes()[0]
	for _, call := range []struct {
		call    string
		request any
	}{
		{"auth/user/add", map[string]string{"name": "root", "password": "secret"}},
		{"auth/user/grant", map[string]string{"user": "root", "role": "root"}},
		{"auth/user/add", map[string]string{"name": "reader", "password": "secret"}},
		{"auth/role/add", map[string]string{"name": "reader"}},
		{"auth/role/grant", map[string]any{"name": "reader", "perm": map[string]any{"permType": "READ", "key": []byte("/tulle/network/"), "range_end": []byte("/tulle/network0")}}},
		{"auth/user/grant", map[string]string{"user": "reader", "role": "reader"}},
		{"auth/role/add", map[string]string{"name": "node"}}, // with the least rights that a node needs
		{"auth/role/grant", map[string]any{"name": "node", "perm": map[string]any{"permType": "READ", "key": []byte("/tulle/network/"), "range_end": []byte("/tulle/network0")}}},
		{"auth/role/grant", map[string]any{"name": "node", "perm": map[string]any{"permType": "READWRITE", "key": []byte("/tulle/network/subnets/"), "range_end": []byte("/tulle/network/subnets0")}}},
		{"auth/user/add", map[string]string{"name": "node", "password": "secret"}},
		{"auth/user/grant", map[string]string{"user": "node", "role": "node"}},
		{"auth/enable", struct{}{}},
	} {
		if call.call == "auth/user/grant" && call.request.(map[string]string)["role"] == "root" {
			l.etcd(t, "auth/role/add", map[string]string{"name": "root"}, nil)
		}
		l.etcd(t, call.call, call.request, nil)
	}
	for _, tt := range []struct{ name, user, password, want, never string }{
		{"one who may all", "root", "secret", "", "etcd-"},
		{"a node", "node", "secret", "", "etcd-"},
		{"one who may read", "reader", "secret", "etcd-read-only", "etcd-refuses"},
		{"one with the wrong password", "reader", "wrong", "etcd-refuses", "etcd-read-only"},
		{"nobody", "", "", "etcd-refuses", "etcd-read-only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var flags []string
			if tt.user != "" {
				flags = []string{"--etcd-username", tt.user, "--etcd-password", tt.password}
			}
			heals(t, func() error { // a busy etcd may be late to check a password
				found := doctorOf(t, node, flags...)
				if tt.want != "" && !slices.Contains(ids(found), tt.want) {
					return fmt.Errorf("doctor does not say %s:\n%s", tt.want, told(found))
				}
				for _, id := range ids(found) {
					if strings.HasPrefix(id, tt.never) {
						return fmt.Errorf("doctor says %s:\n%s", id, told(found))
					}
				}
				return nil
			})
		})
	}
}

// TestDoctorOfPlainRoutes: nodes are tried where there is no tunnel, too.
func TestDoctorOfPlainRoutes(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 2, Pods: 1, Network: []string{"--backend=host-gw"}})
	near, far, below := l.Nodes()[0], l.Nodes()[1], l.Host("underlay")
	for _, tt := range []struct {
		name, do, undo, words string
		want                  [][]string
	}{
		// The kernel gives up asking for the neighbour, which a trace sees.
		{"off the network", "ip link set $FAR down", "ip link set $FAR up", far.Name, [][]string{{"peer-silent"}, {"way"}}},
		{"behind a smaller MTU", "ip link set $FAR mtu 1300", "ip link set $FAR mtu 1500; ip link set underlay mtu 1500", "--mtu 1300", [][]string{{"mtu-hole"}}},
	} {
		sh := func(script string) {
			t.Helper()
			if text, err := below.Exec(t.Context(), "sh", "-ec", strings.ReplaceAll(script, "$FAR", far.Name)); err != nil {
				t.Fatalf("%s: %v: %s", tt.name, err, text)
			}
		}
		heals(t, func() error {
			if found := doctorOf(t, near); len(found) > 0 {
				return fmt.Errorf("a healthy node, and doctor says:\n%s", told(found))
			}
			return nil
		})
		sh(tt.do)
		found := doctorOf(t, near)
		if !slices.ContainsFunc(tt.want, func(want []string) bool { return slices.Equal(ids(found), want) }) || !strings.Contains(told(found), tt.words) {
			t.Errorf("%s: doctor says, and not %s with %q:\n%s", tt.name, tt.want, tt.words, told(found))
		}
		sh(tt.undo)
	}
}

// TestTraceAndDoctorOfEachKind: whatever the families and the backend, doctor is
// silent on healthy nodes, and a trace ends where the pod is.
func TestTraceAndDoctorOfEachKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, pods, hosts string
		network           []string
	}{
		{"dual stack", "46", "46", nil},
		{"IPv6 alone", "6", "6", nil},
		{"dual stack on hosts without IPv6", "46", "4", nil},
		{"host-gw", "4", "4", []string{"--backend=host-gw"}},
		{"host-gw, dual stack", "46", "46", []string{"--backend=host-gw"}},
		{"plain routes, dual stack", "46", "46", []string{"--direct-routing=true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := up(t, Options{Nodes: 2, Pods: 1, Families: families(t, tt.pods), Underlay: families(t, tt.hosts), Network: tt.network})
			wantHealthy(t, l)
			there := l.Pods[1]
			for _, a := range there.Addrs {
				if !a.IsValid() {
					continue
				}
				for host, want := range map[*Host]string{l.Nodes()[0]: trace.AtNode, there.host: trace.AtPod} {
					text, err := host.Exec(t.Context(), "tullectl", "trace", l.Pods[0].Addrs[subnet.FamilyOf(a.Addr())].Addr().String(), a.Addr().String(), "--json")
					var got trace.Trace
					if err == nil {
						err = json.Unmarshal([]byte(text), &got)
					}
					if err != nil {
						t.Errorf("%s: trace to %s: %v\n%s", host.Name, a.Addr(), err, text)
						continue
					}
					if got.End.Where != want || want == trace.AtNode && got.End.Node != there.host.Name || want == trace.AtPod && got.End.Pod != there.Name {
						t.Errorf("%s: trace to %s ends %s, want %s", host.Name, a.Addr(), got.End.Text, want)
					}
				}
			}
		})
	}
}
