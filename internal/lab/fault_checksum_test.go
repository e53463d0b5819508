package lab

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// wrongChecksums puts something between a node and its underlay that does what a
// faulty device does: it carries frames as they are in memory, with checksums
// that a device was to fill in and nobody has. It returns what takes it away.
func wrongChecksums(t *testing.T, v victim) func() {
	t.Helper()
	below, port := v.lab.Host("underlay"), v.far.host.Name
	sh := func(script string) {
		t.Helper()
		if _, err := below.Exec(t.Context(), "sh", "-euc", script); err != nil {
			t.Fatal(err)
		}
	}
	// A bridge takes the lowest address of its ports, unless it is given one; another
	// one is a fault of its own, which neighbours find out late.
	sh("ip link set underlay address $(cat /sys/class/net/underlay/address)")
	sh("ip link add inner type veth peer name outer; ip link set inner up; ip link set outer master underlay; ip link set outer up; ip link set " + port + " nomaster")
	var fds []int
	err := below.Net(func() error {
		for _, dev := range []string{port, "inner"} {
			fd, err := frames(dev)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var carriers sync.WaitGroup
	for i := range fds {
		carriers.Go(func() { carry(fds[i], fds[1-i], i == 0, over) })
	}
	return func() {
		close(over)
		carriers.Wait()
		for _, fd := range fds {
			unix.Close(fd)
		}
		sh("ip link del inner; ip link set " + port + " master underlay")
	}
}

// carry copies frames until it is over. Forgiving, it makes those of VXLAN right:
// the fault is that of what goes to the node.
func carry(from, to int, forgiving bool, over <-chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		select {
		case <-over:
			return
		default:
		}
		n, sender, err := unix.Recvfrom(from, buf, 0)
		if err != nil {
			continue // nothing came for a while
		}
		if forgiving {
			forgive(buf[:n])
		}
		if s, ok := sender.(*unix.SockaddrLinklayer); ok && s.Pkttype != unix.PACKET_OUTGOING {
			_, _ = unix.Write(to, buf[:n]) // a frame that is too large is lost
		}
	}
}

// forgive takes the outer checksum out of a VXLAN packet of IPv4, which may be
// left out.
func forgive(frame []byte) {
	const ethernet, proto, udp, port = 14, 14 + 9, 14 + 20, 8472
	if len(frame) > udp+8 && binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IP && frame[ethernet] == 0x45 &&
		frame[proto] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(frame[udp+2:]) == port {
		frame[udp+6], frame[udp+7] = 0, 0
	}
}

// frames opens a socket for the frames of a device.
func frames(dev string) (int, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, err
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)) // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return -1, err
	}
	wait := unix.Timeval{Usec: 100_000}
	return fd, errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
	)
}
