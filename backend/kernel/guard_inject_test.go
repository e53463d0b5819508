package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"tulle/backend"
	"tulle/internal/root"
	"tulle/subnet"
)

// underlay is three hosts on one link: the victim, which has a VXLAN device and is
// where the test is, a peer of it, and one that holds no lease.
type underlay struct {
	outer subnet.Family
	hosts map[string]netns.NsHandle
}

var underlayAddrs = map[string][2]string{
	"victim": {"192.0.2.10", "2001:db8::10"},
	"peer":   {"192.0.2.11", "2001:db8::11"},
	"evil":   {"192.0.2.66", "2001:db8::66"},
}

func newUnderlay(t *testing.T, outer subnet.Family) underlay {
	t.Helper()
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	u := underlay{outer, map[string]netns.NsHandle{}}
	for _, name := range []string{"peer", "evil", "victim"} { // and stay in the last
		ns, err := netns.New()
		if err != nil {
			t.Fatalf("make a network namespace: %v", err)
		}
		t.Cleanup(func() { ns.Close() })
		u.hosts[name] = ns
	}
	run(t, "ip link set lo up")
	run(t, "ip link add eth0 type bridge")
	for name, ns := range u.hosts {
		dev := "eth0"
		if name != "victim" {
			// /proc/self/fd of a child is not ours, but the number of the process is.
			to := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns))
			run(t, "ip link add "+name+" type veth peer name eth0 netns "+to)
			run(t, "ip link set "+name+" master eth0 up")
		}
		u.in(t, name, func() {
			run(t, "ip link set "+dev+" up")
			run(t, "ip addr add "+underlayAddrs[name][0]+"/24 dev "+dev)
			run(t, "ip addr add "+underlayAddrs[name][1]+"/64 dev "+dev+" nodad")
		})
	}
	run(t, "sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")
	return u
}

// in runs f on a thread in another host.
func (u underlay) in(t *testing.T, name string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(u.hosts[name])
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func (u underlay) addr(name string) netip.Addr {
	return netip.MustParseAddr(underlayAddrs[name][u.outer])
}

// sender is a host's socket towards the VXLAN port of the victim.
func (u underlay) sender(t *testing.T, name string) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	u.in(t, name, func() {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(u.addr("victim"), 8472)))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// device is the victim's.
func (u underlay) device() backend.Link {
	d := device()
	d.Local, d.MTU = u.addr("victim"), 1400
	return d
}

const podPort = 9999

// pod is the address at the victim to which the inner packets go.
var pod = [2]netip.Addr{netip.MustParseAddr("10.244.1.0"), netip.MustParseAddr("fd42:0:0:1::")}

// frame is a packet to the pod in Ethernet.
func frame(src netip.Addr) []byte {
	dst, f := pod[subnet.FamilyOf(src)], subnet.FamilyOf(src)
	b := slices.Concat(mac1[:], mac2[:])
	b = binary.BigEndian.AppendUint16(b, ipHeaders[f].etherType)
	text := []byte("hello")
	udp := binary.BigEndian.AppendUint16(nil, 12345)
	udp = binary.BigEndian.AppendUint16(udp, podPort)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(text)))
	udp = append(append(udp, 0, 0), text...)
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 17, 0, byte(len(udp))}, udp)
	binary.BigEndian.PutUint16(udp[6:], checksum(pseudo))
	if f == subnet.IPv4 {
		ip := slices.Concat([]byte{0x45, 0, 0, byte(20 + len(udp)), 0, 0, 0, 0, 64, 17, 0, 0}, src.AsSlice(), dst.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		return slices.Concat(b, ip, udp)
	}
	return slices.Concat(b, []byte{0x60, 0, 0, 0, 0, byte(len(udp)), 17, 64}, src.AsSlice(), dst.AsSlice(), udp)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for len(b) > 0 {
		sum += uint32(b[0]) << 8
		if len(b) > 1 {
			sum += uint32(b[1])
		}
		b = b[min(2, len(b)):]
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func vxlanPacket(vni byte, frame []byte) []byte {
	return slices.Concat([]byte{8, 0, 0, 0, 0, 0, vni, 0}, frame)
}

// burst is how many packets of a kind are sent; the pod's socket can queue them.
const burst = 50

func send(t *testing.T, c net.Conn, packet []byte) {
	t.Helper()
	for range burst {
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
}

// arrived reads what came to the pod until there are n, or no more come.
func arrived(t *testing.T, pod *net.UDPConn, n int) int {
	t.Helper()
	got := 0
	for buf := make([]byte, 100); got < n; got++ {
		if err := pod.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := pod.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// queued is how many came to the pod by now.
func queued(t *testing.T, pod *net.UDPConn) int {
	t.Helper()
	got := 0
	for buf := make([]byte, 100); ; got++ {
		if err := pod.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := pod.Read(buf); err != nil {
			return got
		}
	}
}

// dropped waits until the counters are as expected.
func dropped(t *testing.T, k *Kernel, unknown, wrong uint64) {
	t.Helper()
	var gotUnknown, gotWrong uint64
	for range 500 {
		var err error
		if gotUnknown, gotWrong, err = k.Drops(); err != nil {
			t.Fatal(err)
		}
		if gotUnknown >= unknown && gotWrong >= wrong {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if gotUnknown != unknown || gotWrong != wrong {
		t.Fatalf("Drops = %d of unknown VTEPs and %d with a wrong source, want %d and %d", gotUnknown, gotWrong, unknown, wrong)
	}
}

// A host without a lease can't put a packet into a pod, and a peer none that
// seems to come from another peer's pod.
func TestInjection(t *testing.T) {
	root.Require(t)
	for _, outer := range subnet.Families {
		for _, inner := range subnet.Families {
			for _, odd := range []bool{false, true} {
				name := fmt.Sprintf("%s in %s", inner, outer)
				if odd {
					name += ", subnets of another length"
				}
				t.Run(name, func(t *testing.T) { testInjection(t, outer, inner, odd) })
			}
		}
	}
}

func testInjection(t *testing.T, outer, inner subnet.Family, odd bool) {
	u := newUnderlay(t, outer)
	k := open(t)
	subnets := [2]string{"10.244.2.0/24", "fd42:0:0:2::/64"}
	own, other := [2]string{"10.244.2.5", "fd42:0:0:2::5"}[inner], [2]string{"10.244.3.5", "fd42:0:0:3::5"}[inner]
	g := guard(backend.GuardStrict)
	g.VTEPs = outer
	if odd {
		g.Lens = [2]int{25, 63}
	}
	peer := source(underlayAddrs["peer"][outer], subnets[:]...)
	peer.Odd = odd
	third := source([2]string{"192.0.2.12", "2001:db8::12"}[outer], "10.244.3.0/24", "fd42:0:0:3::/64")
	third.Odd = odd
	without := backend.NewState(u.device())
	for _, a := range pod {
		without.Add(backend.Addr{Dev: "tulle.1", Prefix: netip.PrefixFrom(a, a.BitLen())})
	}
	strict := backend.NewState(g, peer, third)
	g.Mode = backend.GuardVTEP
	vtep := backend.NewState(g, peer, third)
	for _, e := range without {
		strict.Add(e)
		vtep.Add(e)
	}
	apply(t, k, without)
	listen, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(pod[inner], podPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer listen.Close()
	good, evil := u.sender(t, "peer"), u.sender(t, "evil")
	ownFrame, otherFrame := frame(netip.MustParseAddr(own)), frame(netip.MustParseAddr(other))
	arp := slices.Clone(ownFrame)
	binary.BigEndian.PutUint16(arp[12:], 0x0806)
	vlan := slices.Concat(ownFrame[:12], []byte{0x81, 0, 0, 0}, ownFrame[12:])
	foreign := frame([2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:9::1")}[inner])

	// Linux takes packets to a new IPv6 address when it has got round to its route.
	for range 500 {
		if _, err := evil.Write(vxlanPacket(1, ownFrame)); err != nil {
			t.Fatal(err)
		}
		if queued(t, listen) > 0 {
			break
		}
	}
	send(t, evil, vxlanPacket(1, ownFrame))
	if got := arrived(t, listen, burst); got != burst {
		t.Fatalf("without a guard %d of %d injected packets arrive; the test would prove nothing", got, burst)
	}
	queued(t, listen) // if some of those before came late

	apply(t, k, strict)
	same(t, k, strict)
	dropped(t, k, 0, 0)
	send(t, evil, vxlanPacket(1, ownFrame))
	send(t, evil, vxlanPacket(1, foreign))
	send(t, evil, vxlanPacket(1, arp))
	send(t, evil, vxlanPacket(1, ownFrame)[:20])
	dropped(t, k, 4*burst, 0)
	send(t, evil, vxlanPacket(2, ownFrame)) // another device's, whoever has it
	send(t, evil, vxlanPacket(1, ownFrame))
	dropped(t, k, 5*burst, 0)
	send(t, good, vxlanPacket(1, otherFrame))
	send(t, good, vxlanPacket(1, foreign))
	send(t, good, vxlanPacket(1, arp))
	send(t, good, vxlanPacket(1, vlan))
	send(t, good, vxlanPacket(1, ownFrame)[:30])
	dropped(t, k, 5*burst, 5*burst)
	if got := queued(t, listen); got != 0 {
		t.Errorf("%d packets arrive that should be dropped", got)
	}
	send(t, good, vxlanPacket(1, ownFrame))
	if got := arrived(t, listen, burst); got != burst {
		t.Errorf("%d of %d packets of a peer arrive", got, burst)
	}

	apply(t, k, vtep)
	send(t, evil, vxlanPacket(1, ownFrame))
	dropped(t, k, 6*burst, 5*burst)
	send(t, good, vxlanPacket(1, foreign))
	if got := arrived(t, listen, burst); got != burst {
		t.Errorf("when only the VTEP is looked at, %d of %d packets of a peer with a foreign source arrive", got, burst)
	}
	dropped(t, k, 6*burst, 5*burst)

	apply(t, k, without)
	send(t, evil, vxlanPacket(1, ownFrame))
	if got := arrived(t, listen, burst); got != burst {
		t.Errorf("with the guard gone again %d of %d packets arrive", got, burst)
	}
}
