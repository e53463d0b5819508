package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle/backend"
)

// ErrNoGuard says that a kernel can hold no backend.Guard.
var ErrNoGuard = errors.New("nftables of Linux 5.6 or newer is needed to drop VXLAN packets of strangers")

// guards are the tables of nftables that hold Sources and a Guard, one for each
// VXLAN device and named like it.
//
//	table inet tulle.1 {
//	    set vteps.ip          { 192.0.2.11, ... }                 the Sources
//	    set sources.ip.ip.24  { 192.0.2.11 . 10.244.2.0, ... }
//	    set sources.ip.ip.odd { }
//	    counter unknown-vtep, wrong-source
//	    chain vxlan           our VNI? known VTEP? a source of its own?
//	    chain input           hook input; the VXLAN port? goto vxlan
//	}
type guards struct {
	*nftables
	owner   string
	foreign map[string][]body               // by table: elements that can be no Source's, as of the last dump
	watched atomic.Pointer[map[string]bool] // the tables, as of the last dump; nil before
	counted atomic.Pointer[string]          // the table of the wanted Guard; nil if there is none
}

func newGuards(owner string, n *nftables) *guards {
	return &guards{nftables: n, owner: owner, foreign: map[string][]body{}}
}

// CanGuard returns an error of the class ErrNoGuard if this kernel can hold no
// Guard. It makes one and deletes it again at once.
func (k *Kernel) CanGuard() error {
	if k.guards.conn == nil {
		return ErrNoGuard
	}
	probe := backend.Guard{Dev: fmt.Sprintf("tulle.probe.%d", os.Getpid()), Mode: backend.GuardStrict, Port: 1, VNI: 1, Lens: [2]int{24, 64}}
	t := k.guards.begin(inet)
	k.guards.define(t, probe)
	t.remove(unix.NFT_MSG_DELTABLE, body(nil).text(unix.NFTA_TABLE_NAME, probe.Dev))
	if err := k.guards.commit(t); err != nil {
		return fmt.Errorf("%w: %w", ErrNoGuard, err)
	}
	return nil
}

// defineTable is to create a table with sets.
func (g *guards) defineTable(t *transaction, table string, sets []addrSet) {
	t.add(unix.NFT_MSG_NEWTABLE, body(nil).text(unix.NFTA_TABLE_NAME, table))
	for i, s := range sets {
		t.add(unix.NFT_MSG_NEWSET, s.define(table, g.owner, uint32(i+1)))
	}
}

// define is to create what belongs to a Guard, or to make it so.
func (g *guards) define(t *transaction, guard backend.Guard) {
	table := guard.Dev
	g.defineTable(t, table, guardSets(guard))
	for _, counter := range []string{unknownVTEP, wrongSource} {
		t.add(unix.NFT_MSG_NEWOBJ, body(nil).text(unix.NFTA_OBJ_TABLE, table).text(unix.NFTA_OBJ_NAME, counter).
			number(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER).put(unix.NFTA_OBJ_DATA, nil))
	}
	for _, c := range guardChains(guard) {
		t.set(table, c)
	}
}

// set makes the change of a Guard. The table goes with it.
func (g *guards) set(c backend.Change) error {
	if g.conn == nil {
		return ErrNoGuard
	}
	t := g.begin(inet)
	if c.Want == nil {
		t.remove(unix.NFT_MSG_DELTABLE, body(nil).text(unix.NFTA_TABLE_NAME, c.Key().Name))
		if err := g.commit(t); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	t.wake(c.Key().Name)
	for _, elements := range g.foreign[c.Key().Name] {
		t.remove(unix.NFT_MSG_DELSETELEM, elements)
	}
	delete(g.foreign, c.Key().Name)
	if err := g.commit(t); err != nil {
		return err
	}
	t = g.begin(inet)
	g.define(t, c.Want.(backend.Guard))
	return g.commit(t)
}

// concerns reports whether an nftables message tells that others changed a table
// of ours.
func (g *guards) concerns(m syscall.NetlinkMessage) bool {
	tables := g.watched.Load()
	if g.conn == nil || tables == nil || m.Header.Pid == g.conn.port || len(m.Data) < sizeofNfgenmsg || m.Data[0] != inet[0] {
		return false
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN,
		unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE, unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		const table = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on have one number
		return (*tables)[body(m.Data[sizeofNfgenmsg:]).string(table)]
	}
	return false
}

// Drops is how many packets the Guard dropped: those of hosts that are no VTEP of
// a peer, and those of peers with a source that is not theirs. It counts from 0
// again when somebody deleted the table. It may be called at any time.
func (k *Kernel) Drops() (unknown, wrong uint64, err error) {
	table := k.guards.counted.Load()
	if table == nil {
		return 0, 0, nil
	}
	conn, err := dial(unix.NETLINK_NETFILTER) // the Kernel's own serves one caller at a time
	if err != nil {
		return 0, 0, fmt.Errorf("open netlink socket: %w", err)
	}
	defer conn.close()
	if unknown, err = conn.counter(*table, unknownVTEP); err == nil {
		wrong, err = conn.counter(*table, wrongSource)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read counters of table inet %s: %w", *table, err)
	}
	return unknown, wrong, nil
}
