package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
)

// sctp is what matters here of a packet of SCTP (RFC 9260): the header, and the chunk
// that opens an association or answers that.
type sctp struct {
	from, to uint16
	tag      uint32 // of whoever receives it; 0 in the first one
	chunk    byte
}

const (
	sctpInit    = 1
	sctpInitAck = 2
	sctpOwnTag  = 0x7011e5
)

func (s sctp) bytes() []byte {
	b := binary.BigEndian.AppendUint16(nil, s.from)
	b = binary.BigEndian.AppendUint16(b, s.to)
	b = binary.BigEndian.AppendUint32(b, s.tag)
	b = append(b, 0, 0, 0, 0, s.chunk, 0, 0, 20)
	for _, word := range []uint32{sctpOwnTag, 65536, 1<<16 | 1, 1} { // tag, window, streams, first number
		b = binary.BigEndian.AppendUint32(b, word)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// parseSCTP refuses what was not translated whole, with its checksum.
func parseSCTP(b []byte) (sctp, error) {
	if len(b) < 32 {
		return sctp{}, fmt.Errorf("%d bytes are no packet of SCTP", len(b))
	}
	s := sctp{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), b[12]}
	if want := s.bytes(); string(want) != string(b[:len(want)]) {
		return s, fmt.Errorf("%+v with a wrong checksum or body: % x, want % x", s, b, want)
	}
	return s, nil
}

// sctpEnd is an end of an association without a kernel's SCTP: not every kernel has
// that, and netfilter translates the packets all the same.
type sctpEnd struct {
	testing.TB
	*net.IPConn
}

func newSCTPEnd(t testing.TB, at ns.NetNS, network string) sctpEnd {
	t.Helper()
	var conn *net.IPConn
	err := at.Do(func(ns.NetNS) (err error) {
		conn, err = net.ListenIP(fmt.Sprint(network, ":", unix.IPPROTO_SCTP), nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return sctpEnd{t, conn}
}

// receive waits for a packet to a port.
func (e sctpEnd) receive(port uint16) (sctp, net.Addr) {
	e.Helper()
	if err := e.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		e.Fatal(err)
	}
	for buf := make([]byte, 1500); ; {
		n, from, err := e.ReadFrom(buf)
		if err != nil {
			e.Fatalf("no packet of SCTP to port %d: %v", port, err)
		}
		s, err := parseSCTP(buf[:n])
		if s.to != port {
			continue // a raw socket also sees what is not for it
		}
		if err != nil {
			e.Fatal(err)
		}
		return s, from
	}
}

func (e sctpEnd) send(to net.Addr, s sctp) {
	e.Helper()
	if _, err := e.WriteTo(s.bytes(), to); err != nil {
		e.Fatal(err)
	}
}

// A mapped port of SCTP is led to the pod and the answer back, each with ports and
// checksum as they should be.
func TestPortMappingOfSCTP(t *testing.T) {
	t.Parallel()
	h, p := newHost(t, twoFamilies), newPod(t, "pod1")
	out := h.outside()
	list := h.conf("1.1.0", withPorts)
	p.capabilities = p.ports("7000>80/sctp")
	h.mustAdd(list, p)
	for n, tt := range []struct {
		name, network, to string
		from              ns.NetNS
		source            string // that the pod sees
	}{
		{"from outside", "ip4", "192.0.2.1", out, "192.0.2.2"},
		{"from outside over IPv6", "ip6", "2001:db8::1", out, "2001:db8::2"},
		{"from the host", "ip4", "192.0.2.1", h.ns, "192.0.2.1"},
	} {
		port := uint16(5000 + n)
		client, server := newSCTPEnd(t, tt.from, tt.network), newSCTPEnd(t, p.ns, tt.network)
		to := &net.IPAddr{IP: net.ParseIP(tt.to)}
		client.send(to, sctp{from: port, to: 7000, chunk: sctpInit})
		first, from := server.receive(80)
		if want := (sctp{from: port, to: 80, chunk: sctpInit}); first != want || from.String() != tt.source {
			t.Errorf("%s: the pod gets %+v from %s, want %+v from %s", tt.name, first, from, want, tt.source)
		}
		server.send(from, sctp{from: first.to, to: first.from, tag: sctpOwnTag, chunk: sctpInitAck})
		answer, from := client.receive(port)
		if want := (sctp{from: 7000, to: port, tag: sctpOwnTag, chunk: sctpInitAck}); answer != want || from.String() != tt.to {
			t.Errorf("%s: the answer is %+v from %s, want %+v from %s", tt.name, answer, from, want, tt.to)
		}
	}
	if err := h.del(list, p); err != nil {
		t.Fatal(err)
	}
	h.wantNothing("DEL")
}
