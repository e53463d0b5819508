package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

// dump reads the tables that are wanted, and those that are there and ours.
func (g *guards) dump(have, want backend.State) error {
	tables := map[string]bool{}
	var counted *string
	for key := range want {
		if !backend.Guards.Has(key.Kind) {
			continue
		}
		tables[key.Name] = true
		if key.Kind == backend.KindGuard {
			counted = &key.Name
		}
	}
	if g.conn == nil {
		return nil
	}
	sets, err := g.conn.sets(g.owner, tables)
	if err != nil {
		if len(tables) == 0 && errors.Is(err, unix.EINVAL) {
			return nil // there is no nftables, and so nothing of ours in it
		}
		return err
	}
	g.watched.Store(&tables)
	g.counted.Store(counted)
	clear(g.foreign)
	for table := range tables {
		for _, s := range sets[table] {
			foreign, err := g.conn.dumpSources(have, want, table, s)
			if err != nil {
				return fmt.Errorf("set %s: %w", s.name(), err)
			}
			if foreign != nil {
				g.foreign[table] = append(g.foreign[table], s.elements(table, foreign))
			}
		}
		there, flags, err := g.conn.table(inet, table)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		guard, ok := want[backend.Guard{Dev: table}.Key()].(backend.Guard)
		ok = ok && flags&flagDormant == 0 && g.foreign[table] == nil
		if ok {
			ok, err = g.conn.complete(guard)
		}
		if err != nil {
			return err
		}
		if !ok {
			guard = backend.Guard{Dev: table, Other: true}
		}
		have.Add(guard)
	}
	return nil
}

// sets lists the sets of every table by the table's name, those with VTEPs first,
// and adds the owner's tables to what is ours.
func (c *conn) sets(owner string, ours map[string]bool) (map[string][]addrSet, error) {
	var sets map[string][]addrSet
	err := c.dump(nftMessage(unix.NFT_MSG_GETSET), inet, func() { sets = map[string][]addrSet{} }, func(m syscall.NetlinkMessage) error {
		b := nftBody(m)
		s, ok := parseAddrSet(b.string(unix.NFTA_SET_NAME))
		if !ok {
			return nil
		}
		table := b.string(unix.NFTA_SET_TABLE)
		if isOf(owner, b.get(unix.NFTA_SET_USERDATA)) {
			ours[table] = true
		}
		if s.len == noSubnets {
			sets[table] = append([]addrSet{s}, sets[table]...)
		} else {
			sets[table] = append(sets[table], s)
		}
		return nil
	})
	return sets, err
}

func nftBody(m syscall.NetlinkMessage) body { return body(m.Data[min(sizeofNfgenmsg, len(m.Data)):]) }

// dumpSources adds the elements of a set to the rows. It returns those that can be
// no row's.
func (c *conn) dumpSources(have, want backend.State, table string, s addrSet) (foreign body, err error) {
	type allowed struct {
		vtep netip.Addr
		pods netip.Prefix
	}
	var list []allowed
	ref := s.ref(table, unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET)
	err = c.dump(nftMessage(unix.NFT_MSG_GETSETELEM), inet, func() { list, foreign = list[:0], nil }, func(m syscall.NetlinkMessage) error {
		for _, element := range nftBody(m).get(unix.NFTA_SET_ELEM_LIST_ELEMENTS).all() {
			if vtep, pods, ok := s.parse(element); ok {
				list = append(list, allowed{vtep, pods})
			} else {
				foreign = foreign.put(nftaListElem, element.only(unix.NFTA_SET_ELEM_KEY, nftaSetElemKeyEnd, unix.NFTA_SET_ELEM_FLAGS))
			}
		}
		return nil
	}, ref)
	for _, a := range list {
		row := backend.Source{Dev: table, VTEP: a.vtep}
		if s.len == noSubnets {
			have.Add(row)
		} else {
			addSubnet(have, want, row, s, a.pods)
		}
	}
	return foreign, err
}

// addSubnet adds what a VTEP may send to its row, or to a row of its own where
// that has one already.
func addSubnet(have, want backend.State, row backend.Source, s addrSet, pods netip.Prefix) {
	key := row.Key()
	into, ok := have[key].(backend.Source)
	if !ok {
		into = row
		into.Unlisted = true
	}
	odd := s.len == oddLen
	empty := into.Subnets == [2]netip.Prefix{}
	if !into.Subnets[s.pods].IsValid() && (empty || into.Odd == odd) {
		into.Subnets[s.pods], into.Odd = pods, odd
		have.Add(into)
		return
	}
	if wanted, ok := want[key].(backend.Source); ok && wanted.Subnets[s.pods] == pods && wanted.Odd == odd {
		// This is the right one, and what came first is the stray.
		row.Subnets, row.Odd = into.Subnets, into.Odd
		into.Subnets, into.Odd = [2]netip.Prefix{}, odd
		into.Subnets[s.pods] = pods
		have.Add(into)
	} else {
		row.Subnets[s.pods], row.Odd = pods, odd
	}
	for row.Stray = 1; have[row.Key()] != nil && row.Stray < math.MaxUint8; {
		row.Stray++
	}
	have.Add(row)
}

// Flags of a table of nftables.
const (
	flagDormant = 1 // its chains are asked nothing
	flagOwner   = 2 // nobody else may change it
)

func (c *conn) table(proto nfgenmsg, name string) (there bool, flags uint32, err error) {
	got, err := c.get(unix.NFT_MSG_GETTABLE, proto, body(nil).text(unix.NFTA_TABLE_NAME, name))
	if value := got.get(unix.NFTA_TABLE_FLAGS); len(value) == 4 {
		flags = binary.BigEndian.Uint32(value)
	}
	return got != nil, flags, err
}

// complete reports whether the chains of a Guard have their rules, and no others.
func (c *conn) complete(g backend.Guard) (bool, error) {
	for _, chain := range guardChains(g) {
		got, err := c.get(unix.NFT_MSG_GETCHAIN, inet, chainRef(g.Dev, chain.name))
		if err != nil || !got.holds(chain.define(g.Dev)) {
			return false, err
		}
		count, same := 0, true
		err = c.dump(nftMessage(unix.NFT_MSG_GETRULE), inet, func() { count, same = 0, true }, func(m syscall.NetlinkMessage) error {
			b := nftBody(m)
			if b.string(unix.NFTA_RULE_TABLE) != g.Dev || b.string(unix.NFTA_RULE_CHAIN) != chain.name {
				return nil
			}
			same = same && count < len(chain.rules) && chain.rules[count].is(b.get(unix.NFTA_RULE_EXPRESSIONS))
			count++
			return nil
		}, ruleRef(g.Dev, chain.name))
		if err != nil || !same || count != len(chain.rules) {
			return false, err
		}
	}
	return true, nil
}

// counter is the packets that a named counter has seen, 0 if it is not there.
func (c *conn) counter(table, name string) (uint64, error) {
	got, err := c.get(unix.NFT_MSG_GETOBJ, inet, body(nil).text(unix.NFTA_OBJ_TABLE, table).text(unix.NFTA_OBJ_NAME, name).
		number(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER))
	packets := got.get(unix.NFTA_OBJ_DATA).get(unix.NFTA_COUNTER_PACKETS)
	if err != nil || len(packets) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(packets), nil
}
