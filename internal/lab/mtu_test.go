package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// TestMTUFollows changes the MTU of the nodes' devices. What tulled tells of it
// follows, and pods that have started before hear of packets that are too large.
func TestMTUFollows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		options  Options
		overhead int
	}{
		{Options{}, 50},
		{Options{Backend: subnet.HostGW}, 0},
	} {
		o := tt.options
		o.Nodes, o.Pods, o.Families, o.Underlay = 2, 1, families(t, "46"), families(t, "46")
		t.Run("overhead "+fmt.Sprint(tt.overhead), func(t *testing.T) {
			t.Parallel()
			mtuFollows(t, up(t, o), tt.overhead)
		})
	}
}

func mtuFollows(t *testing.T, l *Lab, overhead int) {
	nodes, old := l.Nodes(), [2]*Pod{l.Pods[0], l.Pods[1]}
	// become gives the devices between the nodes an MTU, and waits until that is
	// followed; the bridges come to another one.
	become := func(t *testing.T, mtu, bridge int) {
		t.Helper()
		for _, h := range nodes {
			_, err := l.Host("underlay").Exec(t.Context(), "ip", "link", "set", h.Name, "mtu", fmt.Sprint(mtu))
			_, ownErr := h.Exec(t.Context(), "ip", "link", "set", uplink, "mtu", fmt.Sprint(mtu))
			if err := errors.Join(err, ownErr); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range nodes {
			heals(t, func() error {
				file, err := h.Subnet()
				if err == nil && file.MTU != mtu-overhead {
					err = fmt.Errorf("%s: the subnet file tells an MTU of %d, want %d", h.Name, file.MTU, mtu-overhead)
				}
				return err
			})
			heals(t, func() error {
				text, err := h.Exec(t.Context(), "ip", "-o", "link", "show", "cni0")
				if err == nil && !strings.Contains(text, fmt.Sprintf("mtu %d ", bridge)) {
					err = fmt.Errorf("%s: the bridge is %q, want an MTU of %d", h.Name, text, bridge)
				}
				return err
			})
			wantRight(t, h)
		}
	}
	// hears sends a packet that is too large, until the sender is told what is not,
	// and one that is answered by the same way. Then it sends much.
	hears := func(t *testing.T, from, to *Pod, size, fits, both int) {
		t.Helper()
		for _, f := range l.Families.List() {
			addr := to.Addrs[f].Addr()
			heals(t, func() error {
				if err := pingOnce(t.Context(), &from.Place, addr, size); !errors.Is(err, unix.EMSGSIZE) {
					return fmt.Errorf("%s to %s: %d bytes over %s: %v, want %w", from.Name, to.Name, size, f, err, unix.EMSGSIZE)
				}
				return nil
			})
			if err := pingOnce(t.Context(), &from.Place, addr, fits+1); !errors.Is(err, unix.EMSGSIZE) {
				t.Errorf("%s to %s: %d bytes over %s: %v, want %v", from.Name, to.Name, fits+1, f, err, unix.EMSGSIZE)
			}
			if err := pingOnce(t.Context(), &from.Place, addr, fits); errors.Is(err, unix.EMSGSIZE) {
				t.Errorf("%s to %s: %d bytes over %s are refused", from.Name, to.Name, fits, f)
			}
			if err := pingOnce(t.Context(), &from.Place, addr, both); err != nil {
				t.Errorf("%s to %s: %d bytes over %s: %v, want an answer", from.Name, to.Name, both, f, err)
			}
			if seen, err := fetchNoise(t.Context(), from, to, f, 10); err != nil {
				t.Error(err)
			} else {
				t.Logf("%s over %s: %s", from.Name, f, seen)
			}
		}
	}
	fresh := func(t *testing.T, h *Host, name string, mtu int) *Pod {
		t.Helper()
		p, err := l.AddPod(t.Context(), h, name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.MTU(); err != nil || got != mtu {
			t.Errorf("%s has an MTU of %d, %v, want %d", name, got, err, mtu)
		}
		return p
	}

	const small, large = 1400, 9000
	t.Run("smaller", func(t *testing.T) {
		become(t, small, small-overhead)
		hears(t, old[0], old[1], 1500-overhead, small-overhead, small-overhead)
		p := fresh(t, nodes[0], "small1", small-overhead)
		if err := pingOnce(t.Context(), &p.Place, old[1].Addr(), small-overhead); err != nil {
			t.Error(err)
		}
	})
	t.Run("larger", func(t *testing.T) {
		// The smallest pod of node1 is of the time before, and node2 has one that
		// is older; neither bridge may let more through than these can take.
		for _, h := range nodes {
			if _, err := l.Host("underlay").Exec(t.Context(), "ip", "link", "set", h.Name, "mtu", fmt.Sprint(large)); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int{small - overhead, 1500 - overhead} {
			if _, err := nodes[i].Exec(t.Context(), "ip", "link", "set", uplink, "mtu", fmt.Sprint(large)); err != nil {
				t.Fatal(err)
			}
			heals(t, func() error {
				file, err := nodes[i].Subnet()
				text, execErr := nodes[i].Exec(t.Context(), "ip", "-o", "link", "show", "cni0")
				if err := errors.Join(err, execErr); err != nil {
					return err
				}
				if file.MTU != large-overhead || !strings.Contains(text, fmt.Sprintf("mtu %d ", want)) {
					return fmt.Errorf("%s: the subnet file tells an MTU of %d, want %d; the bridge is %q, want %d", nodes[i].Name, file.MTU, large-overhead, text, want)
				}
				return nil
			})
		}
		p := fresh(t, nodes[0], "large1", large-overhead)
		hears(t, p, old[1], large-overhead, 1500-overhead, small-overhead)
	})
	t.Run("as large as pods may send when the others are gone", func(t *testing.T) {
		if err := l.RemovePod(t.Context(), old[1]); err != nil {
			t.Fatal(err)
		}
		p := fresh(t, nodes[1], "large2", large-overhead)
		for _, name := range []string{"pod1-1", "small1"} {
			i := slices.IndexFunc(l.Pods, func(p *Pod) bool { return p.Name == name })
			if err := l.RemovePod(t.Context(), l.Pods[i]); err != nil {
				t.Fatal(err)
			}
		}
		again := fresh(t, nodes[0], "large3", large-overhead)
		if err := pingOnce(t.Context(), &again.Place, p.Addr(), large-overhead); err != nil {
			t.Error(err)
		}
	})
}
