package reach

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// discard is the port that is knocked at (RFC 863). Hardly any host listens
// there, so its kernel says that it is closed, if the checksum is right.
const discard = 9

// What the datagrams hold, so that a capture can tell them apart.
const (
	offloadedText = "tulle: checksum by the device"
	computedText  = "tulle: checksum by tulled"
)

// knock sends a UDP datagram to a closed port and waits for word that it is
// closed. The device computes the checksum, if it can.
func knock(ctx context.Context, dst netip.Addr) error {
	s, err := dial(ctx, dst, discard, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return err
	}
	defer s.close()
	return s.refused([]byte(offloadedText))
}

// knockComputed is knock with a checksum that is computed here.
func knockComputed(ctx context.Context, dst netip.Addr) error {
	s, err := dial(ctx, dst, 0, unix.SOCK_RAW, unix.IPPROTO_UDP)
	if err != nil {
		return err
	}
	defer s.close()
	src, err := s.local()
	if err != nil {
		return err
	}
	return s.refused(datagram(src, dst, uint16(49152+rand.N(16384)), discard, []byte(computedText)))
}

// refused sends a datagram and returns nil if the port is closed or open.
func (s socket) refused(packet []byte) error {
	if err := s.send(packet); err != nil {
		return err
	}
	_, err := s.receive(make([]byte, 1500))
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return err
}

// datagram is a UDP header and its data (RFC 768, RFC 8200 section 8.1).
func datagram(src, dst netip.Addr, from, to uint16, data []byte) []byte {
	const header = 8
	b := make([]byte, header, header+len(data))
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(header+len(data)))
	b = append(b, data...)

	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, unix.IPPROTO_UDP)
	sum := ^fold(add(add(0, pseudo), b))
	if sum == 0 {
		sum = 0xffff // 0 means that there is none
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// add adds up 16-bit words (RFC 1071).
func add(sum uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
