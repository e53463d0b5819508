package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"tulle/subnet"
)

// owner is the comment of a row: network, host's end of the veth, and the pod's
// name for a person.
func owner(network string, a attachment, label string) string {
	const most = 127 // what nft(8) shows
	text := brief(network) + " " + a.hostName() + " " + label
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

// brief is the name of a network, or, where it is so long that there would be no room
// for the veth, its beginning and a digest. A name has no tilde.
func brief(network string) string {
	const most, digits = 80, 16
	if len(network) <= most {
		return network
	}
	sum := sha256.Sum256([]byte(network))
	return network[:most-digits-1] + "~" + hex.EncodeToString(sum[:])[:digits]
}

// ownerOf is the host's end of the veth of a row of the network; empty when the comment
// is that of another network, or none that owner made.
func ownerOf(comment, network string) (hostName string) {
	if rest, ok := strings.CutPrefix(comment, brief(network)+" "); ok {
		return hostNameIn(rest)
	}
	return ""
}

// anyOwner is the host's end of the veth of a row of whatever network; empty when owner
// did not make the comment.
func anyOwner(comment string) (hostName string) {
	_, rest, _ := strings.Cut(comment, " ")
	return hostNameIn(rest)
}

// ofWhom is the part of a comment that tells rows of one attachment to one network.
func ofWhom(comment string) string {
	network, rest, _ := strings.Cut(comment, " ")
	return network + " " + hostNameIn(rest)
}

func hostNameIn(rest string) string {
	name, _, _ := strings.Cut(rest, " ")
	if !isHostName(name) {
		return ""
	}
	return name
}

// portRow is one row of a map or set, comparable.
type portRow struct {
	Family   subnet.Family
	Set      string
	Key, Val string // bytes
	Owner    string
}

// portRows are the rows that lead the mappings to the pod.
func portRows(ports []portMapping, addrs []address, a attachment, owner string) []portRow {
	var rows []portRow
	for _, addr := range addrs {
		pod := addr.Prefix.Addr()
		family := subnet.FamilyOf(pod)
		var covered []portRow
		for _, p := range ports {
			if !p.covers(family) {
				continue
			}
			row := portRow{Family: family, Set: "ports", Key: word(p.Protocol) + port16(p.HostPort), Val: bytesOf(pod) + port16(p.Port), Owner: owner}
			if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
				row.Set, row.Key = "hosts", bytesOf(p.HostIP)+row.Key
			}
			covered = append(covered, row)
		}
		if len(covered) == 0 {
			continue
		}
		rows = append(rows, covered...)
		rows = append(rows, portRow{Family: family, Set: "owners", Key: a.ownerKey(), Owner: owner})
		from := []netip.Addr{pod} // the pod itself, through the node's address
		if family == subnet.IPv4 {
			from = append(from, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		}
		for _, src := range from {
			rows = append(rows, portRow{Family: family, Set: "hairpin", Key: bytesOf(src) + bytesOf(pod), Owner: owner})
		}
	}
	return rows
}

func bytesOf(a netip.Addr) string { return string(a.AsSlice()) }

// word and port16 fill four bytes, as each part of a concatenation does.
func word(b uint8) string { return string([]byte{b, 0, 0, 0}) }

func port16(p uint16) string {
	return string(binary.BigEndian.AppendUint16(nil, p)) + "\x00\x00"
}

// ownerKey is the digits of the veth's end on the host, in six bytes.
func (a attachment) ownerKey() string {
	key, _ := hex.DecodeString("0" + strings.TrimPrefix(a.hostName(), hostPrefix))
	return string(key)
}

// String names the row for a person.
func (r portRow) String() string {
	switch r.Set {
	case "hairpin":
		return "masquerading for hairpin traffic"
	case "owners":
		return "the mark of who has host ports"
	}
	key := r.Key
	at := "every address of the node"
	if r.Set == "hosts" {
		a, _ := netip.AddrFromSlice([]byte(key[:len(key)-8]))
		at, key = a.String(), key[len(key)-8:]
	}
	name := ""
	for text, number := range protocols {
		if number == key[0] {
			name = text
		}
	}
	return fmt.Sprintf("host port %d/%s on %s", binary.BigEndian.Uint16([]byte(key[4:6])), name, at)
}
