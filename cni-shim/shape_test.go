package main

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
)

func TestBandwidthIsLimited(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", `"capabilities": {"bandwidth": true}`)
	const rate = 8 << 20 // bits: 1 MiB per second
	p.capabilities = map[string]any{"bandwidth": map[string]int{
		"ingressRate": rate, "ingressBurst": rate / 4, "egressRate": rate, "egressBurst": rate / 4,
	}}
	h.mustAdd(list, p)
	for _, way := range []struct {
		name, to, dev string
		from, at      ns.NetNS
	}{
		{"into the pod", "10.244.60.2:5000", p.hostName(), h.ns, p.ns},
		{"out of the pod", "10.244.60.1:5000", attachment{p.id, p.ifName}.shaperName(), p.ns, h.ns},
	} {
		const size = rate/8/2 + rate/4/8 // half a second of the rate beyond the burst
		var b *netlink.Tbf
		// A machine with much to do may be slower than the limit for once.
		for i := 0; i == 0 || b.Statistics.Queue.Overlimits == 0 && i < 20; i++ {
			transfer(t, way.from, way.at, way.to, size)
			if b = h.bucket(way.dev); b == nil || b.Statistics == nil {
				t.Fatalf("%s: no bucket on %s", way.name, way.dev)
			}
		}
		if s := b.Statistics; s.Basic.Bytes < size || s.Queue.Overlimits == 0 {
			t.Errorf("%s: the bucket on %s saw %d of %d bytes, and %d packets had to wait; want all, and some",
				way.name, way.dev, s.Basic.Bytes, size, s.Queue.Overlimits)
		}
	}
	if err := h.del(list, p); err != nil {
		t.Fatal(err)
	}
	h.wantNothing("DEL")
}

// bucket is the token bucket of a device; nil where there is none.
func (h *host) bucket(dev string) *netlink.Tbf {
	h.Helper()
	l, err := h.LinkByName(dev)
	if err != nil {
		h.Fatal(err)
	}
	list, err := dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(l) })
	if err != nil {
		h.Fatal(err)
	}
	for _, q := range list {
		if tbf, ok := q.(*netlink.Tbf); ok {
			return tbf
		}
	}
	return nil
}

// transfer sends so many bytes over TCP, and returns when all have arrived.
func transfer(t *testing.T, from, at ns.NetNS, to string, size int) {
	t.Helper()
	var l net.Listener
	if err := at.Do(func(ns.NetNS) (err error) { l, err = net.Listen("tcp", to); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			c.Close()
		}
		done <- err
	}()
	err := from.Do(func(ns.NetNS) error {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(make([]byte, size))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestShaperIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, oneFamily), newPod(t, "pod1")
	list := h.conf("1.1.0", `"capabilities": {"bandwidth": true}`)
	p.capabilities = map[string]any{"bandwidth": map[string]int{"egressRate": 16_000_000, "egressBurst": 8_000_000}}
	h.mustAdd(list, p)
	if b := h.bucket(attachment{p.id, p.ifName}.shaperName()); b == nil || b.Rate != 2_000_000 {
		t.Errorf("what the pod sends is limited by %v, want a rate of 2000000 bytes/s", b)
	}
	if b := h.bucket(p.hostName()); b != nil {
		t.Errorf("what the pod receives is limited by %v, want no limit", b)
	}
}

// A bucket of whatever rate holds a packet; one that does not would drop them all.
func TestBucketHoldsAPacketAtEveryRate(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneFamily)
	for _, rate := range []uint64{1000, 1_000_000, 100_000_000_000, 1_000_000_000_000, 1_000_000_000_000_000} {
		p := newPod(t, fmt.Sprint("pod", rate))
		list := h.conf("1.1.0", `"capabilities": {"bandwidth": true}`)
		p.capabilities = map[string]any{"bandwidth": map[string]uint64{"ingressRate": rate, "ingressBurst": 8}}
		r := h.mustAdd(list, p)
		b := h.bucket(p.hostName())
		if b == nil {
			t.Fatalf("no bucket for a rate of %d", rate)
		}
		const packet = 1450 + 14
		if holds := float64(b.Buffer) / netlink.TickInUsec() / 1e6 * float64(b.Rate); holds < packet {
			t.Errorf("at %d bit/s the bucket holds %.0f bytes, want %d or more", rate, holds, packet)
		}
		if most := max(uint64(b.Rate)/1000*25+packet, packet); b.Limit < packet || uint64(b.Limit) > most {
			t.Errorf("at %d bit/s the queue takes %d bytes, want %d to %d", rate, b.Limit, packet, most)
		}
		echo(t, h.ns, p.ns, addrOf(r.IPs[0].Address.IP.String()))
	}
}
