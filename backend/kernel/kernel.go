// Package kernel holds the rows of a backend.State in the tables of the Linux
// kernel, over netlink, iptables and /proc/sys. It is the only place where the
// daemon reads or writes them.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// Protocol marks our routes and nexthop objects, as rtm_protocol of
// rtnetlink(7) and `proto 116` of ip-route(8). No other routing software is
// known to use it.
const Protocol = 116

// Config says what is ours.
type Config struct {
	// Owner is kept as our devices' alias; see backend.Link.
	Owner string
	// Jumps are all jumps, and by their To all chains, that could be ours,
	// wanted or not.
	Jumps []backend.Jump
	// Table is the name of the tables of nftables, one for each Family, that are
	// ours with all chains in them.
	Table string
	// Firewall is backend.NFTables where the programs of iptables are not needed.
	Firewall backend.Tool
}

// Kernel is the network stack of one network namespace.
type Kernel struct {
	config   Config
	conn     *conn
	links    *netlink.Handle
	nftables *nftables
	tables   *tables
	guards   *guards
	nexthops bool
	domain   domain
	replaced replaced
	settings []backend.Sysctl        // of our devices, as wanted at the last Dump of settings
	watched  atomic.Pointer[devices] // as of the last Dump; nil before
}

var _ backend.Kernel = (*Kernel)(nil)

// Open opens the network namespace of the calling thread. Programs and files
// are used from the thread that calls the methods, which must be in the same
// namespace.
func Open(c Config) (*Kernel, error) {
	conn, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	k := &Kernel{config: c, conn: conn}
	if k.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink socket: %w", err), k.Close())
	}
	if k.nftables, err = openNFT(); err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink socket: %w", err), k.Close())
	}
	k.guards = newGuards(c.Owner, k.nftables)
	if k.tables, err = openTables(c, k.nftables); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if k.nexthops, err = hasNexthops(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("ask the kernel for nexthop objects: %w", err), k.Close())
	}
	return k, nil
}

// Close releases the sockets and leaves all rows as they are.
func (k *Kernel) Close() error {
	if k.links != nil {
		k.links.Close()
	}
	if k.nftables != nil {
		k.nftables.close()
	}
	k.conn.close()
	return nil
}

// Nexthops reports whether the kernel has nexthop objects (Linux 5.3 and newer).
func (k *Kernel) Nexthops() bool { return k.nexthops }

// Dump implements backend.Kernel.
func (k *Kernel) Dump(ctx context.Context, kinds backend.Kinds, want backend.State, part func(backend.Kinds, backend.State)) error {
	have, read := backend.State{}, backend.Kinds(0)
	index := map[int]string{} // of our devices
	var bridges map[int]backend.Bridge
	few := backend.Settings | backend.Firewall | backend.KindsOf(backend.KindLink, backend.KindAddr, backend.KindBridge)
	for _, step := range []struct {
		what  string
		kinds backend.Kinds
		dump  func() error
	}{
		{"sysctls", backend.Settings, func() error { return k.dumpSysctls(have, want) }},
		{"chains", backend.Firewall, func() error { return k.tables.dump(have, want) }},
		{"links", backend.KindsOf(backend.KindLink), func() error { return k.dumpLinks(have, want, index) }},
		{"addresses", backend.KindsOf(backend.KindAddr), func() error { return dumpAddrs(k.conn, have, index) }},
		{"bridges", backend.KindsOf(backend.KindBridge), func() (err error) {
			bridges, err = k.dumpBridges(have, want)
			return err
		}},
		{"guards", backend.Guards, func() error { return k.guards.dump(have, want) }},
		{"forwarding databases", backend.KindsOf(backend.KindFDB), func() error { return dumpFDB(k.conn, have, want, index) }},
		{"neighbours", backend.KindsOf(backend.KindNeigh), func() error { return dumpNeighs(k.conn, have, want, index) }},
		{"nexthops and routes", backend.KindsOf(backend.KindNexthop, backend.KindRoute), func() error { return k.dumpWays(have, want, index) }},
	} {
		if !kinds.Overlaps(step.kinds) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if read != 0 && !few.Overlaps(step.kinds) {
			part(read, have)
			have, read = backend.State{}, 0
		}
		if err := step.dump(); err != nil {
			return fmt.Errorf("read %s: %w", step.what, err)
		}
		read |= step.kinds
	}
	part(read, have)
	if kinds.Overlaps(backend.Network) {
		k.watch(want, index, bridges)
	}
	return nil
}

// Apply implements backend.Kernel.
func (k *Kernel) Apply(ctx context.Context, changes []backend.Change) (made []backend.Change, err error) {
	tried, err := k.apply(ctx, changes)
	k.watchMore(changes[:tried])
	refused := backend.Refused(err)
	made = without(changes[:tried], refused)
	k.replaced.tried(made, refused)
	return made, err
}

// without is the changes that were not refused.
func without(changes, refused []backend.Change) []backend.Change {
	if len(refused) == 0 {
		return changes
	}
	keys := map[backend.Key]bool{}
	for _, c := range refused {
		keys[c.Key()] = true
	}
	return slices.DeleteFunc(slices.Clone(changes), func(c backend.Change) bool { return keys[c.Key()] })
}

// apply returns how many changes it tried.
func (k *Kernel) apply(ctx context.Context, changes []backend.Change) (tried int, err error) {
	var errs []error
	b := batch{conn: k.conn, index: k.index()}
	sources := sourceBatch{guards: k.guards}
	end := func(tried int, err error) (int, error) {
		sources.flush()
		b.flush()
		return tried, errors.Join(slices.Concat(errs, sources.errs, b.errs, []error{err})...)
	}
	for i, c := range changes {
		if err := ctx.Err(); err != nil {
			return end(i, err)
		}
		if c.Key().Kind != backend.KindSource {
			sources.flush() // before the rows by which a peer comes to answer
		}
		var err error
		switch c.Key().Kind {
		case backend.KindSysctl:
			err = setSysctl(c)
		case backend.KindLink:
			b.flush()                               // a device that goes takes rows with it, so what comes in their place is there before
			if err := k.changeLink(c); err != nil { // and nothing else can be right
				return end(i, &backend.ChangeError{Change: c, Err: err})
			}
			b.index = k.index()
		case backend.KindBridge:
			err = k.setBridge(c)
		case backend.KindChain, backend.KindJump:
			err = k.tables.change(c)
		case backend.KindSource:
			sources.add(c)
		case backend.KindGuard:
			sources.setGuard(c)
		case backend.KindAddr:
			err = b.add(c, addrMessage)
		case backend.KindFDB:
			err = b.add(c, fdbMessage)
		case backend.KindNeigh:
			err = b.add(c, neighMessage)
		case backend.KindNexthop:
			err = k.addWay(&b, c, k.nexthopMessage)
		case backend.KindRoute:
			err = k.addWay(&b, c, k.routeMessage)
		}
		if err != nil {
			errs = append(errs, &backend.ChangeError{Change: c, Err: err})
		}
	}
	return end(len(changes), nil)
}

// index returns a function that finds a device's index and asks the kernel once
// for each name.
func (k *Kernel) index() func(name string) (int, error) {
	known := map[string]int{}
	return func(name string) (int, error) {
		if i, ok := known[name]; ok {
			return i, nil
		}
		link, err := k.links.LinkByName(name)
		if err != nil {
			return 0, fmt.Errorf("device %s: %w", name, err)
		}
		known[name] = link.Attrs().Index
		return known[name], nil
	}
}
