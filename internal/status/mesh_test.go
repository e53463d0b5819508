package status

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tulle/internal/golden"
)

// meshOf is a mesh of nodes that all reach each other.
func meshOf(count int) Mesh {
	var m Mesh
	subnet := func(i int) string { return fmt.Sprintf("10.244.%d.0/24", i) }
	for i := range count {
		n := Reached{Node: fmt.Sprintf("node%d", i), Subnet: subnet(i), Peers: map[string]Reach{}}
		for j := range count {
			if i != j {
				n.Peers[subnet(j)] = Reach{Verdict: "good", Sent: 64, RTT: 0.00012 * float64(j+1)}
			}
		}
		m.Nodes = append(m.Nodes, n)
	}
	return m
}

// damaged is a mesh with faults.
func damaged(count int) Mesh {
	m := meshOf(count)
	m.Nodes[0].Peers["10.244.1.0/24"] = Reach{Verdict: "blocked", Meaning: "the node answers, but not through the overlay; see whether a firewall on the way drops the backend's packets", Sent: 64, Lost: 64}
	m.Nodes[1].Peers["10.244.0.0/24"] = Reach{Verdict: "good", Sent: 64, Lost: 2, RTT: 0.0003}
	m.Nodes[2] = Reached{Node: "node2", Subnet: m.Nodes[2].Subnet, Error: "dial tcp 10.244.2.0:8473: i/o timeout"}
	m.Nodes[3].Node = "" // flannel's leases tell no name
	return m
}

func TestMeshText(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]Mesh{
		"mesh-good":    meshOf(3),
		"mesh-damaged": damaged(4),
		"mesh-wide":    damaged(40),
		"mesh-alone":   meshOf(1),
	} {
		var b strings.Builder
		if err := m.Write(&b, false); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > 81 {
				t.Errorf("%s: a line of %d characters: %s", name, len(line)-1, line)
			}
		}
		golden.Check(t, name+".txt", b.String())
	}
}

func TestMeshFaults(t *testing.T) {
	t.Parallel()
	if faults := meshOf(3).Faults(); len(faults) != 0 {
		t.Errorf("faults of a good mesh: %q", faults)
	}
	faults := damaged(4).Faults()
	if len(faults) != 2 || !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, "node0 to node1: blocked: ") }) {
		t.Errorf("faults are %q, want that from node0 to node1, and that node2 can't be asked", faults)
	}
}
