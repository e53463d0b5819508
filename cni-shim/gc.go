package main

import (
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gc frees what attachments left that the runtime no longer knows. It goes on
// after an error, and tells all.
func gc(args *skel.CmdArgs) error {
	conf, err := parseNetconf(args.StdinData)
	if err != nil {
		return err
	}
	if conf.Valid == nil {
		return coded(types.ErrInvalidNetworkConfig, errors.New(
			"cni.dev/valid-attachments is missing: without it every pod would lose its network"))
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return errors.Join(gcReservations(h, conf), gcVeths(h, conf))
}

// keeps are the attachments of the runtime's list, and the host names that
// follow from them.
type keeps struct {
	holders map[attachment]bool
	names   map[string]bool
}

func (c netconf) keeps() keeps {
	k := keeps{map[attachment]bool{}, map[string]bool{}}
	for _, v := range c.Valid {
		a := attachment{v.ContainerID, v.IfName}
		k.holders[a] = true
		k.holders[attachment{ContainerID: v.ContainerID}] = true // as old reservations are written
		k.names[a.hostName()] = true
	}
	return k
}

// gcReservations releases the addresses of attachments that are gone, after
// their veths, which must not keep an address that the next pod gets.
func gcReservations(h *netlink.Handle, c netconf) error {
	store, err := openExistingIPAM(c)
	if store == nil {
		return err
	}
	defer store.close()
	all, err := store.sweep()
	if err != nil {
		return err
	}
	keep := c.keeps().holders
	var errs []error
	for _, r := range all {
		if keep[r.holder] {
			continue
		}
		_, err := deleteLink(h, r.holder.hostName())
		if err == nil {
			err = store.release(r.holder)
		}
		keep[r.holder] = true // both families at once
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// gcVeths deletes those of this network's veths that no reservation led to,
// because somebody removed the files.
func gcVeths(h *netlink.Handle, c netconf) error {
	links, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	keep, group := c.keeps().names, groupOf(c.Name)
	var errs []error
	for _, l := range links {
		if a := l.Attrs(); a.Group == group && isHostName(a.Name) && !keep[a.Name] {
			_, err := deleteLink(h, a.Name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
