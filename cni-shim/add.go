package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// add attaches a pod. When it fails, the pod, its address and its veth are as
// they were.
func add(args *skel.CmdArgs) error {
	conf, err := parseNetconf(args.StdinData)
	if err != nil {
		return err
	}
	plan, err := planAdd(conf, args)
	if err != nil {
		return err
	}
	p, err := openPod(args.Netns)
	if err != nil {
		return coded(types.ErrInvalidNetNS, err)
	}
	defer p.close()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	store, err := openIPAM(conf)
	if err != nil {
		return err
	}
	defer store.close()
	if err := store.exclude(args.ContainerID); err != nil {
		return err
	}

	// With this the reservations of an attempt that died are told from those
	// of a pod that lives.
	if taken, err := p.link(args.IfName); err != nil {
		return err
	} else if taken != nil {
		return fmt.Errorf("the pod has an interface %s already (%s, index %d): CNI_IFNAME must name a new one",
			args.IfName, taken.Type(), taken.Attrs().Index)
	}
	result, undo, err := plan.run(h, p, store)
	if err == nil {
		err = types.PrintResult(result, conf.CNIVersion)
	}
	if err != nil {
		return then(err, undo())
	}
	return nil
}

// run does the work and returns the result, and what takes it all back.
func (plan addPlan) run(h *netlink.Handle, p *pod, store *ipam) (*current.Result, func() error, error) {
	var undos []func() error
	undo := func() (err error) {
		for i := len(undos) - 1; i >= 0; i-- {
			err = errors.Join(err, undos[i]())
		}
		return err
	}

	six, err := openIPv6()
	if err != nil {
		return nil, undo, err
	}
	defer six.close()
	want := wantBridge(plan.conf, plan.file)
	want.Kubernetes = plan.args.label != ""
	br, err := want.ensure(h, six, store)
	if err != nil {
		return nil, undo, err
	}
	step("bridge")
	undos = append(undos, func() error { return store.release(plan.who, func(netip.Addr) error { return nil }) })
	addrs, err := store.reserve(plan.who, request{
		spans:  plan.spans,
		static: plan.conf.Wish.Static,
		ownMAC: plan.conf.Wish.MAC != "",
		stale:  func(all []reservation) ([]reservation, error) { return store.stale(h, all) },
		farewell: func(gone []reservation) error {
			// That of an attempt for this very pod, in a namespace that it had before.
			for _, r := range gone {
				if _, err := deleteLink(h, r.holder.hostName()); err != nil {
					return err
				}
			}
			return plan.conf.farewell(gone)
		},
	})
	if err != nil {
		return nil, undo, err
	}
	step("address")
	if _, err := want.addAddrs(h, br); err != nil {
		return nil, undo, err
	}

	v := veth{
		Host:    plan.who.hostName(),
		Pod:     plan.who.IfName,
		MTU:     want.MTU,
		PodMAC:  plan.podMAC(addrs),
		Group:   groupOf(plan.conf.Name),
		Alias:   plan.args.alias(plan.who.ContainerID),
		Hairpin: plan.conf.Hairpin,
	}
	undos = append(undos, func() error {
		_, err := deleteLink(h, v.Host)
		return err
	})
	if _, err = v.create(h, six, p.fd(), br); err != nil {
		return nil, undo, err
	}
	step("attached")
	if err := p.configure(v.Pod, addrs, plan.routes); err != nil {
		return nil, undo, err
	}
	step("configured")
	if len(plan.conf.Wish.Ports) > 0 {
		f, err := openFirewall()
		if err != nil {
			return nil, undo, err
		}
		undos = append(undos, func() error {
			// Over a new way: on one that failed there may be answers of before.
			f.close()
			f, err := openFirewall()
			if err != nil {
				return err
			}
			defer f.close()
			return plan.who.withdraw(f, plan.conf)
		})
		err = plan.publish(f, h, addrs)
		if err != nil {
			return nil, undo, err
		}
	}
	step("published")
	undos = append(undos, func() error { return unshape(h, plan.who) })
	if err := plan.shape(h, v); err != nil {
		return nil, undo, err
	}
	step("shaped")
	host, err := awaitUp(h, v.Host)
	if err != nil {
		return nil, undo, err
	}
	if err := p.announce(v.Pod, v.PodMAC, addrs); err != nil {
		return nil, undo, err
	}
	step("announced")
	if err := store.announced(addrs, plan.conf.Wish.MAC != ""); err != nil {
		return nil, undo, err
	}
	if err := v.reflect(h, host); err != nil {
		return nil, undo, err
	}
	return plan.report(br, host, v, addrs), undo, nil
}
