package lab

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"tulle/internal/golden"
	"tulle/subnet"
)

// matrixOf is a matrix in which a packet from pod i to pod j takes i+j+1 tenths
// of a millisecond.
func matrixOf(pods ...string) Matrix {
	m := Matrix{Pods: pods, Cells: make([][]Cell, len(pods))}
	for i := range pods {
		for j := range pods {
			c := Cell{Sent: 3, RTT: time.Duration(i+j+1) * 100 * time.Microsecond}
			if i == j {
				c = Cell{}
			}
			m.Cells[i] = append(m.Cells[i], c)
		}
	}
	return m
}

func TestProofText(t *testing.T) {
	t.Parallel()
	held := Proof{Matrices: []Matrix{matrixOf("pod1-1", "pod1-2", "pod2-1")}, Rows: []Row{
		{Name: "every pod to every pod", Seen: "18 of 18 answered"},
		{Name: "pod to another host", Seen: "pod1-1 to node2, seen as 192.0.2.11"},
	}}
	golden.Check(t, "held.txt", held.String())

	failed := Proof{Matrices: []Matrix{matrixOf("pod1-1", "pod1-2", "pod2-1")}}
	failed.Matrices[0].Cells[0][2] = Cell{Sent: 3, Lost: 3, Err: errLost}
	failed.Matrices[0].Cells[1][2] = Cell{Sent: 3, Lost: 1, RTT: time.Millisecond, Err: errLost}
	_, err := failed.Matrices[0].verdict()
	failed.Rows = []Row{
		{Name: "every pod to every pod", Err: err},
		{Name: "pod to another host", Err: errors.New("expected this, saw that")},
		{Name: "host to a pod on another host", Family: subnet.IPv6, Seen: "node1 to pod2-1"},
	}
	golden.Check(t, "failed.txt", failed.String())

	golden.Check(t, "wide.txt", matrixOf("a-1", "a-2", "b-1", "b-2", "c-1", "c-2", "d-1", "d-2", "e-1").String())
}

func TestVerdictOfAMatrixWithoutLoss(t *testing.T) {
	t.Parallel()
	if seen, err := matrixOf("a", "b").verdict(); err != nil || seen != "6 of 6 answered, mean 0.20 ms" {
		t.Errorf("verdict = %q, %v", seen, err)
	}
}

func TestKubeProxyRules(t *testing.T) {
	t.Parallel()
	golden.Check(t, "kube-proxy.rules", kubeProxyRules(netip.MustParsePrefix("10.244.0.0/16"), []service{
		{name: "default/web:http", addr: netip.MustParseAddrPort("10.96.0.10:80"), endpoint: netip.MustParseAddrPort("10.244.1.2:8080")},
		{name: "default/shop:http", addr: netip.MustParseAddrPort("10.96.0.11:80"), nodePort: 30080, endpoint: netip.MustParseAddrPort("10.244.2.2:8080")},
	}))
}

func TestKubeProxyRulesForIPv6(t *testing.T) {
	t.Parallel()
	golden.Check(t, "kube-proxy-ipv6.rules", kubeProxyRules(netip.MustParsePrefix("fd00:10:244::/56"), []service{
		{name: "default/web:http", addr: netip.MustParseAddrPort("[fd00:10:96::10]:80"), nodePort: 30080, endpoint: netip.MustParseAddrPort("[fd00:10:244:1::2]:8080")},
	}))
}

func TestKubeProxyTable(t *testing.T) {
	t.Parallel()
	golden.Check(t, "kube-proxy.nft", kubeProxyTable(netip.MustParsePrefix("10.244.0.0/16"), netip.MustParseAddr("192.0.2.11"), []service{
		{name: "default/web:http", addr: netip.MustParseAddrPort("10.96.0.10:80"), endpoint: netip.MustParseAddrPort("10.244.1.2:8080")},
		{name: "default/shop:http", addr: netip.MustParseAddrPort("10.96.0.11:80"), nodePort: 30080, endpoint: netip.MustParseAddrPort("10.244.2.2:8080")},
	}))
	golden.Check(t, "kube-proxy-ipv6.nft", kubeProxyTable(netip.MustParsePrefix("fd00:10:244::/56"), netip.Addr{}, []service{
		{name: "default/web:http", addr: netip.MustParseAddrPort("[fd00:10:96::10]:80"), endpoint: netip.MustParseAddrPort("[fd00:10:244:1::2]:8080")},
	}))
}

func TestProofNeedsPodsToSendBetween(t *testing.T) {
	t.Parallel()
	l := newLab("small")
	for _, name := range []string{"node1", "node2"} {
		h := l.newHost(name, RoleNode, firstLink, [2]netip.Addr{})
		l.Hosts = append(l.Hosts, h)
		l.Pods = append(l.Pods, newPod(h, "pod-"+name))
	}
	if _, err := l.Prove(t.Context(), func(string) {}); err == nil {
		t.Error("a lab with one pod on each node was proved")
	}
}
