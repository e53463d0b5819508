package status

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tulle/internal/golden"
)

// waiting is a node that has just started.
func waiting(now time.Time) Node {
	return Node{
		Name: "node1", Version: "0.1.0 (commit 1a2b3c4)", Started: now.Add(-90 * time.Second),
		Phase: "waiting for etcd and a network configuration",
		Etcd:  Etcd{Endpoints: []string{"http://192.0.2.1:2379"}, Prefix: "/tulle/network"},
		Peers: []Peer{},
	}
}

// running is a node with peers of all conditions.
func running(now time.Time) Node {
	n := waiting(now)
	n.Ready, n.Phase = true, "ready"
	n.Etcd.Connected, n.Etcd.Revision = true, 42
	n.Underlay = &Underlay{Dev: "eth0", Address: "192.0.2.11", MTU: 1500, Why: "it reaches etcd", Others: []string{"eth1 (198.51.100.7, default route)"}}
	n.Lease = &Lease{Node: "node1", Subnets: []string{"10.244.180.0/24", "fd42:0:0:b4::/64"}, Address: "192.0.2.11", Backend: "vxlan"}
	n.Device, n.MTU = "tulle.1", 1450
	n.Peers = []Peer{
		{Lease: Lease{Node: "node2", Subnets: []string{"10.244.213.0/24"}, Address: "192.0.2.12", Backend: "vxlan"}, VTEP: &VTEP{Address: "192.0.2.12", MAC: "ee:74:a1:02:a6:a2"}, Programmed: true,
			Reach: &Reach{Verdict: "good", Sent: 64, Lost: 2, RTT: 0.000312}},
		{Lease: Lease{Node: "node3", Subnets: []string{"10.244.32.0/24"}, Address: "192.0.2.13", Backend: "vxlan"}, Missing: []string{"route 10.244.32.0/24 nhid 7"},
			Reach: &Reach{Verdict: "blocked", Meaning: "the node answers, but not through the overlay", Sent: 3, Lost: 3}},
		{Lease: Lease{Subnets: []string{"8.8.8.0/24"}, Address: "192.0.2.99", Backend: "vxlan"}, LeftOut: "its subnet is outside of the configured Network"},
		{Lease: Lease{Node: "node7", Subnets: []string{"10.244.61.0/24"}, Address: "192.0.2.17", Backend: "vxlan"}, Awaited: true},
	}
	n.BadKeys = map[string]string{"rubbish": `"rubbish" is not a subnet such as 10.244.60.0-24`, "a": "is none either"}
	n.LastPass = &Pass{At: now.Add(-3 * time.Second), Why: "kernel changed", Changes: 1, Error: "add route 10.244.32.0/24 nhid 7: file exists\nand another"}
	n.Want = []string{"link tulle.1 up", "route 10.244.213.0/24 nhid 6", "route 10.244.32.0/24 nhid 7"}
	n.Have = []string{"link tulle.1 up", "route 10.244.213.0/24 nhid 6", "route 10.244.99.0/24 nhid 9"}
	n.Difference = []string{"add route 10.244.32.0/24 nhid 7", "delete route 10.244.99.0/24 nhid 9"}
	return n
}

func unknown(now time.Time) Node {
	n := running(now)
	n.Peers, n.BadKeys, n.LastPass = nil, nil, nil
	n.Have, n.Difference, n.KernelErr = nil, nil, "read routes: the table keeps changing while it is read"
	return n
}

func TestText(t *testing.T) {
	for name, node := range map[string]func(time.Time) Node{
		"waiting":           waiting,
		"running":           running,
		"unreadable-kernel": unknown,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // so that times since are always the same
				var b strings.Builder
				n := node(time.Now())
				if err := n.Write(&b, false); err != nil {
					t.Fatal(err)
				}
				b.WriteString("\n")
				if err := n.WritePeers(&b, false); err != nil {
					t.Fatal(err)
				}
				b.WriteString("\n")
				if err := n.WriteRows(&b); err != nil {
					t.Fatal(err)
				}
				golden.Check(t, name+".txt", b.String())
			})
		})
	}
}

// TestJSON: what tulled writes is what tullectl reads.
func TestJSON(t *testing.T) {
	t.Parallel()
	for _, n := range []Node{waiting(time.Unix(1, 0).UTC()), running(time.Unix(1, 0).UTC()), unknown(time.Unix(1, 0).UTC())} {
		text, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var back Node
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, n) {
			t.Errorf("read back: %+v\nwant: %+v", back, n)
		}
	}
}
