package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// portTable is the name of the tables of nftables that the CNI plugin keeps
// published ports in, one for each family.
const portTable = "tulle_ports"

var portFamilies = []struct {
	name   string // as nft(8) calls it
	number byte
}{{"ip", unix.NFPROTO_IPV4}, {"ip6", unix.NFPROTO_IPV6}}

// DeletePortTables deletes the port tables, and returns those that were there in
// the words of nft(8).
func (k *Kernel) DeletePortTables() ([]string, error) {
	if k.nftables.conn == nil {
		return nil, nil // without netfilter there is none
	}
	var deleted []string
	for _, family := range portFamilies {
		t := k.nftables.begin(nfgenmsg{family.number})
		t.remove(unix.NFT_MSG_DELTABLE, body(nil).text(unix.NFTA_TABLE_NAME, portTable))
		name := "table " + family.name + " " + portTable
		switch err := k.nftables.commit(t); {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // no table, or no nftables
		case err != nil:
			return deleted, fmt.Errorf("delete %s: %w", name, err)
		default:
			deleted = append(deleted, name)
		}
	}
	return deleted, nil
}
