package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	removeFlannelFile(conf, a)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()

	// What can be done is done, and the first fault does not keep the rest from going. But
	// the next pod may have the address only when nothing leads there any more.
	var faults []error
	store, err := openExistingIPAM(conf)
	faults = append(faults, err)
	if store != nil {
		defer store.close()
		faults = append(faults, store.exclude(a.ContainerID))
	}
	// First the way in from outside goes, then the pod's network.
	f, err := openFirewall()
	faults = append(faults, err)
	defer f.close()
	var p *pod
	if args.Netns != "" {
		// After a reboot the path may lead to nothing or to a plain file.
		if p, err = openPod(args.Netns); err == nil {
			defer p.close()
		}
	}
	// After rows were removed the kernel frees them before it lets go of a socket of
	// netfilter, which takes 15 ms. So these are open when the process that deletes
	// the veth is made: it closes them last.
	faults = append(faults, a.withdraw(f, conf))
	step("withdrawn")
	faults = append(faults, detach(h, p, store, a))
	step("detached")
	faults = append(faults, unshape(h, a))
	if err := errors.Join(faults...); err != nil || store == nil {
		return err
	}
	return store.release(a, f.flushPod)
}

// heldOpen are the descriptors that others wait for: all that the runtime gave us, and
// our locks.
func heldOpen(store *ipam) []int {
	fds := inherited()
	if store != nil && store.lock >= 0 {
		fds = append(fds, store.lock)
	}
	return fds
}

// withdraw removes the attachment's port mappings.
func (a attachment) withdraw(f firewall, c netconf) error {
	return f.withdraw(c.Name, func(hostName string) bool { return hostName == a.hostName() })
}

// removeFlannelFile removes what flannel's plugin kept of a container that it
// attached. It holds no state that is needed.
func removeFlannelFile(c netconf, a attachment) {
	// When it stays, no harm is done.
	_ = os.Remove(filepath.Join(c.FlannelDir, a.ContainerID))
}

// detach deletes the veth, found by the name that ADD gives it. A veth of another
// name, such as the reference bridge plugin made before tulle took the node over,
// is found in the pod, and known as ours by an address that we reserved for it.
func detach(h *netlink.Handle, p *pod, store *ipam, a attachment) error {
	done, err := deleteLinkBy(h, a.hostName(), func(l netlink.Link) error {
		return deleteInBackground(h, l, heldOpen(store))
	})
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
