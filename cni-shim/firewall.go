package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// firewall writes the port mappings of this plugin. They are rows in maps of a
// table of our own, one table per family:
//
//	table ip tulle_ports {
//		map ports   { protocol . port -> pod . port }           any address of the node
//		map hosts   { address . protocol . port -> pod . port } one address of it
//		set hairpin { source . destination }                    what must be masqueraded
//		set owners  { digits of a veth }                        one for each pod that has rows
//		chain guard       raw prerouting: 127.0.0.0/8 from outside is dropped
//		chain prerouting  dstnat: look up in hosts, then in ports
//		chain output      dstnat: the same, for the node's own programs
//		chain postrouting srcnat: masquerade what is in hairpin
//	}
//
// The comment of a row tells whose it is. A write is one transaction. A row is removed by its
// key alone, whoever has it by then; so whoever takes over the rows of a pod that is gone
// removes its row in owners with them, and the transaction of the second one fails.
type firewall struct {
	*nftables.Conn
	tracker // of the same kernel, for what the library does not have
}

// openFirewall returns the zero firewall, which has no rows, where the kernel has no
// netfilter.
func openFirewall() (firewall, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(roomy))
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return firewall{}, nil
	}
	if err != nil {
		return firewall{}, fmt.Errorf("open nftables: %w", err)
	}
	f := firewall{Conn: c}
	if f.tracker, err = openTracker(); err != nil {
		f.close()
		return firewall{}, err
	}
	return f, nil
}

// roomy lets a socket take a transaction of all ports that there are, and its answers. That
// is a limit and costs nothing.
func roomy[C interface {
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}](c C) error {
	const most = 64 << 20
	return errors.Join(c.SetReadBuffer(most), c.SetWriteBuffer(most))
}

func (f firewall) close() {
	f.tracker.close()
	if f.Conn != nil {
		// Nothing is written that a late error could concern.
		_ = f.CloseLasting()
	}
}

// list returns all rows of both families; none where there is no table, or no
// nftables at all.
func (f firewall) list() ([]portRow, error) {
	if f.Conn == nil {
		return nil, nil
	}
	// The rules' generation tells whether somebody wrote while we read. What came
	// is then not to be trusted: a row may be missing in it.
	const tries = 50
	for i := 1; ; i++ {
		before, err := f.generation()
		if absent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the generation of nftables: %w", err)
		}
		rows, err := f.read()
		if err != nil {
			return nil, err
		}
		after, err := f.generation()
		if err != nil {
			return nil, fmt.Errorf("read the generation of nftables: %w", err)
		}
		if before == after || i == tries {
			return rows, nil
		}
	}
}

// generation is a number that changes with each write to nftables.
func (f firewall) generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
	req.Sockets = f.sockets
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	if err != nil || len(msgs) == 0 {
		return 0, err
	}
	attrs, err := nl.ParseRouteAttr(msgs[0][nl.SizeofNfgenmsg:])
	if err != nil {
		return 0, err
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
			return binary.BigEndian.Uint32(a.Value), nil
		}
	}
	return 0, errors.New("the kernel does not tell it")
}

func (f firewall) read() ([]portRow, error) {
	var rows []portRow
	for _, family := range subnet.Families {
		sets := setsOf(family)
		for _, name := range setNames {
			elems, err := f.GetSetElements(sets[name])
			if absent(err) && name == setNames[0] {
				break // there is no table
			}
			if absent(err) {
				continue // an older plugin made it
			}
			if err != nil {
				return nil, fmt.Errorf("list %s of table %s: %w", name, portTable, err)
			}
			for _, e := range elems {
				rows = append(rows, portRow{family, name, string(e.Key), string(e.Val), e.Comment})
			}
		}
	}
	return rows, nil
}

// absent reports whether an error says that there is no such table, or that the
// kernel has no nftables. The library hides the class of what a dump answers.
func absent(err error) bool {
	return err != nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) ||
		strings.Contains(err.Error(), unix.ENOENT.Error()) || strings.Contains(err.Error(), unix.EINVAL.Error()))
}

// put adds the rows and removes others, all or nothing, and first makes the tables
// of the families what they should be, where they are not.
func (f firewall) put(rows, remove []portRow) error {
	for _, family := range subnet.Families {
		needed := slices.ContainsFunc(rows, func(r portRow) bool { return r.Family == family })
		if !needed || f.intact(family) {
			continue
		}
		if err := f.addTable(family); err != nil {
			return err
		}
	}
	for _, change := range []struct {
		rows []portRow
		do   func(*nftables.Set, []nftables.SetElement) error
	}{{remove, f.SetDeleteElements}, {rows, f.SetAddElements}} {
		for _, family := range subnet.Families {
			for name, set := range setsOf(family) {
				// A list of elements is an attribute, which has at most 64 KiB.
				const together = 128
				for some := range slices.Chunk(elements(change.rows, family, name), together) {
					if err := change.do(set, some); err != nil {
						return fmt.Errorf("write table %s: %w", portTable, err)
					}
				}
			}
		}
	}
	return f.Flush()
}

// elements are the rows of one set.
func elements(rows []portRow, family subnet.Family, set string) []nftables.SetElement {
	var list []nftables.SetElement
	for _, r := range rows {
		if r.Family == family && r.Set == set {
			list = append(list, nftables.SetElement{Key: []byte(r.Key), Val: []byte(r.Val), Comment: r.Owner})
		}
	}
	return list
}

// intact reports whether the table has all its chains with our rules and no others.
func (f firewall) intact(family subnet.Family) bool {
	for _, c := range chainsOf(family) {
		rules, err := f.GetRules(tableOf(family), &nftables.Chain{Name: c.name})
		if err != nil || len(rules) != len(c.rules) {
			return false
		}
		for _, r := range rules {
			if comment, _ := userdata.GetString(r.UserData, userdata.TypeComment); comment != ruleVersion {
				return false
			}
		}
	}
	return true
}

// addTable makes the table with its maps and chains, and writes the rules anew.
func (f firewall) addTable(family subnet.Family) error {
	table := f.AddTable(tableOf(family))
	sets := setsOf(family)
	for _, name := range setNames {
		if err := f.AddSet(sets[name], nil); err != nil {
			return fmt.Errorf("make %s of table %s: %w", name, portTable, err)
		}
	}
	accept := nftables.ChainPolicyAccept
	for _, c := range chainsOf(family) {
		made := f.AddChain(&nftables.Chain{Name: c.name, Table: table, Type: c.kind, Hooknum: c.hook, Priority: c.prio, Policy: &accept})
		f.FlushChain(made)
		for _, rule := range c.rules {
			f.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: rule,
				UserData: userdata.AppendString(nil, userdata.TypeComment, ruleVersion)})
		}
	}
	return nil
}
