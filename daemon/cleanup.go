package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/backend/kernel"
	"tulle/internal/operation"
	"tulle/subnet"
)

// cleanup takes away what tulled has left on this host on purpose, with what the
// plugin left of pods that are gone, and tells each thing. Settings of the kernel
// stay, because others may rely on them, and so does the lease in etcd.
func cleanup(ctx context.Context, c config, out io.Writer) error {
	if err := mayAdministrate(); err != nil {
		return err
	}
	var claims claims
	if err := claims.begin(c); err != nil {
		return err
	}
	defer claims.close()

	b := broom{config: c, out: out, subnets: everHeld(c)}
	k, err := b.openKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	// Files go last: they say what else is ours, should this be interrupted.
	kept, err := b.pods(k)
	if err = errors.Join(b.rows(ctx, k), err); err == nil {
		err = b.files(kept)
	}
	if err == nil && !b.did {
		fmt.Fprintln(out, "nothing to clean")
	}
	return err
}

// broom is a cleanup at work.
type broom struct {
	config  config
	out     io.Writer
	subnets []netip.Prefix // that this node has or had
	did     bool
}

func (b *broom) tell(format string, args ...any) {
	b.did = true
	fmt.Fprintf(b.out, format+"\n", args...)
}

// everHeld is the subnets of this node, as far as its files tell.
func everHeld(c config) []netip.Prefix {
	var all []netip.Prefix
	if m, err := subnet.ReadMemory(memoryPath(c)); err == nil {
		all = append(all, m.Self.Subnets[:]...)
	}
	if f, err := subnet.ReadFile(c.SubnetFile); err == nil {
		for _, s := range f.Subnets {
			if s.IsValid() {
				all = append(all, s.Masked())
			}
		}
	}
	all = slices.DeleteFunc(all, func(p netip.Prefix) bool { return !p.IsValid() })
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}

// openKernel opens the kernel with the chains of every network there could be.
func (b *broom) openKernel() (*kernel.Kernel, error) {
	var every backend.Input
	every.Network.Pools[subnet.IPv4].Prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	every.Network.Pools[subnet.IPv6].Prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	every.Owner, every.Scope = owner(b.config), scope(b.config)
	have, err := kernel.Firewalls()
	if err != nil {
		return nil, fmt.Errorf("look at the host's firewalls: %w", err)
	}
	tool, _ := firewall.Choose(have)
	k, err := kernel.Open(kernelConfig(every, tool))
	if errors.Is(err, exec.ErrNotFound) {
		b.tell("kept the chains of iptables, if there are any: %v", err)
		return kernel.Open(kernel.Config{Owner: every.Owner})
	}
	if err == nil {
		k.Own(former(b.config)...)
	}
	return k, err
}

// rows makes the kernel hold none of our rows.
func (b *broom) rows(ctx context.Context, k *kernel.Kernel) error {
	const tries = 3 // a device that goes takes rows with it, and may have hidden others
	var changes []backend.Change
	for range tries {
		have := backend.State{}
		err := k.Dump(ctx, backend.AllKinds, nil, func(_ backend.Kinds, rows backend.State) { maps.Copy(have, rows) })
		if err != nil {
			return fmt.Errorf("see what is ours: %w", err)
		}
		if changes = backend.Diff(nil, have); len(changes) == 0 {
			return nil
		}
		made, err := k.Apply(ctx, changes)
		for _, c := range made {
			if g, ok := c.Have.(backend.Guard); ok {
				b.tell("delete guard dev %s", g.Dev) // which looks altered, as none is wanted
				continue
			}
			b.tell("%s", c)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("rows come back as soon as they are deleted, the first is %s; stop what puts them there", changes[0].Have)
}

// pods takes away what the plugin made for pods, and reports whether it kept any
// of it for pods that are there.
func (b *broom) pods(k *kernel.Kernel) (kept bool, err error) {
	bridges, err := kernel.Bridges()
	if err != nil {
		return false, err
	}
	attached := false // to whatever bridge
	for _, br := range bridges {
		attached = attached || slices.ContainsFunc(br.Ports, func(name string) bool { return strings.HasPrefix(name, "veth") })
		if !slices.ContainsFunc(br.Addrs, b.isOurBridge) {
			continue
		}
		if len(br.Ports) > 0 {
			kept = true
			b.tell("kept bridge %s, for pods are attached to it: %s; remove the pods and clean up again", br.Name, strings.Join(br.Ports, " "))
			continue
		}
		if err := k.DeleteBridge(br.Name); err != nil {
			return kept, err
		}
		b.tell("delete bridge %s", br.Name)
	}
	if !attached {
		tables, err := k.DeletePortTables()
		for _, table := range tables {
			b.tell("delete %s", table)
		}
		if err != nil {
			return kept, err
		}
	}
	if kept {
		return true, nil
	}
	return false, b.reservations()
}

// isOurBridge reports whether an address is the one that the plugin gives to the
// bridge of this node's pods.
func (b *broom) isOurBridge(a netip.Prefix) bool {
	return slices.ContainsFunc(b.subnets, func(s netip.Prefix) bool { return subnet.Bridge(s) == a })
}

// files removes those that tulled writes, and their folders if nothing else is in
// them. For a bridge that was kept the state file stays, which says that it is ours.
func (b *broom) files(kept bool) error {
	paths := []string{b.config.SubnetFile, memoryPath(b.config)}
	if kept {
		paths = paths[:1]
	}
	errs := []error{b.remove(operation.Socket(b.config.SubnetFile))}
	for _, path := range paths {
		errs = append(errs, b.remove(path+".new"), b.remove(path)) // .new is what a crash left
		b.removeFolder(filepath.Dir(path))
	}
	return errors.Join(errs...)
}

func (b *broom) remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		b.tell("delete file %s", path)
	}
	return err
}

// removeFolder removes a folder that is named for us and empty, or one of a further
// network inside of such.
func (b *broom) removeFolder(path string) {
	if parent := filepath.Dir(path); filepath.Base(parent) == "tulle" {
		defer b.removeFolder(parent)
	} else if filepath.Base(path) != "tulle" {
		return
	}
	if os.Remove(path) == nil {
		b.tell("delete folder %s", path)
	}
}
