package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// publish leads the ports that the runtime asks for to the pod. A host port that
// belongs to another pod is an error; one whose pod is gone is taken over.
func (plan addPlan) publish(f firewall, h *netlink.Handle, addrs []address) error {
	ports := plan.conf.Wish.Ports
	rows := portRows(ports, addrs, plan.who, owner(plan.conf.Name, plan.who, plan.args.label))
	if len(rows) == 0 {
		return nil
	}
	if f.Conn == nil {
		return errNoFirewall
	}
	if slices.ContainsFunc(rows, func(r portRow) bool { return r.Family == subnet.IPv4 }) {
		if err := setSysctl("net/ipv4/conf/"+plan.conf.Bridge+"/route_localnet", "1"); err != nil {
			return err
		}
	}
	const tries = 10 // others may want the same port, or take the same rows away, at this moment
	var err error
	for range tries {
		err = f.put(rows, nil)
		if errors.Is(err, unix.EEXIST) {
			err = f.takeOver(h, plan.conf.Name, plan.who, rows)
		}
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	if e := (*types.Error)(nil); errors.As(err, &e) {
		return err
	}
	if absent(err) {
		return fmt.Errorf("%w (%w)", errNoFirewall, err)
	}
	if err != nil {
		return fmt.Errorf("lead %d host ports to the pod, in nftables table %s: %w", len(ports), portTable, err)
	}
	return f.flushMapped(ports, addrs)
}

var errNoFirewall = errors.New("this kernel has no nftables: chain the plugin portmap, " +
	"and take capabilities.portMappings away from tulle")

// takeOver adds rows where others are in the way, if those are of pods that are gone. All
// rows of such a pod go.
func (f firewall) takeOver(h *netlink.Handle, network string, a attachment, rows []portRow) error {
	have, err := f.list()
	if err != nil {
		return err
	}
	place := func(r portRow) portRow { return portRow{Family: r.Family, Set: r.Set, Key: r.Key} }
	wanted := map[portRow]bool{}
	for _, r := range rows {
		wanted[place(r)] = true
	}
	gone := map[string]bool{}
	for _, r := range have {
		if !wanted[place(r)] || gone[ofWhom(r.Owner)] {
			continue
		}
		if ownerOf(r.Owner, network) != a.hostName() {
			alive, err := lives(h, r.Owner)
			if err != nil {
				return err
			}
			if alive {
				return coded(types.ErrTryAgainLater, fmt.Errorf("%s belongs to another pod already (%s)", r, r.Owner))
			}
		}
		gone[ofWhom(r.Owner)] = true
	}
	return f.put(rows, slices.DeleteFunc(have, func(r portRow) bool { return !gone[ofWhom(r.Owner)] }))
}

// lives reports whether the veth that a row's comment names is there.
func lives(h *netlink.Handle, comment string) (bool, error) {
	name := anyOwner(comment)
	if name == "" {
		return true, nil // of somebody whom we do not know
	}
	_, err := h.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up %s: %w", name, err)
	}
	return true, nil
}

// withdraw removes the rows of all attachments of the network that gone chooses
// by the name of the veth's end on the host.
func (f firewall) withdraw(network string, gone func(hostName string) bool) error {
	if f.Conn == nil {
		return nil
	}
	const tries = 5 // another process may remove the same rows at this moment
	for i := 1; ; i++ {
		rows, err := f.list()
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r portRow) bool {
			name := ownerOf(r.Owner, network)
			return name == "" || !gone(name)
		})
		if len(rows) == 0 {
			return nil
		}
		err = f.put(nil, rows)
		if err == nil {
			return nil
		}
		if i == tries || !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove port mappings from nftables table %s: %w", portTable, err)
		}
	}
}
