package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// del detaches a pod. It needs neither namespace nor subnet file nor previous
// result, and what is gone already is as good as deleted.
func del(args *skel.CmdArgs) error {
	// ADD refuses a netconf with faults, so nothing was ever made by what is
	// faulty in it; and a pod must not hang because of it.
	conf, err := parseNetconf(args.StdinData)
	if conf.Name == "" {
		return err
	}
	a := attachmentOf(args)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()

	var p *pod
	if args.Netns != "" {
		// After a reboot the path may lead to nothing or to a plain file.
		if p, err = openPod(args.Netns); err == nil {
			defer p.close()
		}
	}
	store, err := openExistingIPAM(conf)
	if err != nil {
		return err
	}
	if store != nil {
		defer store.close()
	}
	if err := detach(h, p, store, a); err != nil {
		return err
	}
	if store == nil {
		return nil
	}
	return store.release(a)
}

// detach deletes the veth, found by the name that ADD gives it. A veth of another
// name, such as the reference bridge plugin made before tulle took the node over,
// is found in the pod, and known as ours by an address that we reserved for it.
func detach(h *netlink.Handle, p *pod, store *ipam, a attachment) error {
	done, err := deleteLink(h, a.hostName())
	if done || err != nil || p == nil || store == nil {
		return err
	}
	link, err := p.link(a.IfName)
	if link == nil {
		return err
	}
	held, err := store.held(a)
	if err != nil {
		return err
	}
	has, err := addrsOf(p.h, link)
	if err != nil {
		return fmt.Errorf("list addresses of %s in the pod: %w", a.IfName, err)
	}
	ours := slices.ContainsFunc(has, func(has netlink.Addr) bool {
		return slices.Contains(held, prefixOf(has.IPNet).Addr())
	})
	if !ours {
		return nil
	}
	if err := p.h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s in the pod: %w", a.IfName, err)
	}
	return nil
}
