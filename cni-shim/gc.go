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
	f, err := openFirewall()
	if err != nil {
		return err
	}
	defer f.close()
	keep := conf.keeps().names
	return errors.Join(
		f.withdraw(conf.Name, func(hostName string) bool { return !keep[hostName] }),
		gcReservations(h, f.tracker, conf),
		gcLinks(h, conf),
	)
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
func gcReservations(h *netlink.Handle, t tracker, c netconf) error {
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
			err = store.release(r.holder, t.flushPod)
		}
		keep[r.holder] = true // both families at once
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// gcLinks deletes those of this network's veths that no reservation led to,
// because somebody removed the files, and what shaped the traffic of veths that
// are gone.
func gcLinks(h *netlink.Handle, c netconf) error {
	links, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	keep, group := c.keeps().names, groupOf(c.Name)
	var errs []error
	for _, l := range links {
		a := l.Attrs()
		veth := vethOf(a.Name)
		if veth == "" {
			veth = a.Name
		}
		if a.Group == group && isHostName(veth) && !keep[veth] {
			_, err := deleteLink(h, a.Name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
