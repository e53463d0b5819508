package main

import (
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle/subnet"
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

	// With this the reservations of an attempt that died are told from those
	// of a pod that lives.
	if taken, err := p.link(args.IfName); err != nil {
		return err
	} else if taken != nil {
		return fmt.Errorf("the pod has an interface %s already (%s, index %d): CNI_IFNAME must name a new one",
			args.IfName, taken.Type(), taken.Attrs().Index)
	}
	store, err := openIPAM(conf)
	if err != nil {
		return err
	}
	defer store.close()
	result, undo, err := plan.run(h, p, store)
	if err == nil {
		err = types.PrintResult(result, conf.CNIVersion)
	}
	if err != nil {
		return then(err, undo())
	}
	return nil
}

// addPlan is all of an ADD that can be known before the pod is touched.
type addPlan struct {
	conf    netconf
	who     attachment
	sandbox string
	file    subnet.File
	routes  []route
	alias   string
	result  *current.Result // of the plugins before us
}

func planAdd(c netconf, args *skel.CmdArgs) (addPlan, error) {
	plan := addPlan{conf: c, who: attachmentOf(args), sandbox: args.Netns}
	if err := checkIfName(args.IfName); err != nil {
		return plan, err
	}
	// The library would tell this too, but after the result is printed.
	if own, err := ns.CheckNetNS(args.Netns); err != nil {
		return plan, err
	} else if own {
		return plan, coded(types.ErrInvalidNetNS, fmt.Errorf("CNI_NETNS %s is the namespace of the host", args.Netns))
	}
	var err error
	if plan.alias, err = label(args.Args, args.ContainerID); err != nil {
		return plan, err
	}
	if plan.file, err = readSubnetFile(c.SubnetFile, types.ErrTryAgainLater); err != nil {
		return plan, err
	}
	if plan.routes, err = podRoutes(c, plan.file); err != nil {
		return plan, err
	}
	plan.result, err = prevResult(c)
	return plan, err
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

	want := wantBridge(plan.conf, plan.file)
	br, err := want.ensure(h)
	if err != nil {
		return nil, undo, err
	}
	addrs, err := store.reserve(plan.who, plan.file)
	if err != nil {
		return nil, undo, err
	}
	undos = append(undos, func() error { return store.release(plan.who) })

	v := veth{
		Host:    plan.who.hostName(),
		Pod:     plan.who.IfName,
		MTU:     want.MTU,
		PodMAC:  macOf(addrs[0].Prefix.Addr()),
		Group:   groupOf(plan.conf.Name),
		Alias:   plan.alias,
		Hairpin: plan.conf.Hairpin,
	}
	if _, err = v.create(h, p.fd(), br); err != nil {
		return nil, undo, err
	}
	undos = append(undos, func() error {
		_, err := deleteLink(h, v.Host)
		return err
	})
	if err := p.configure(v.Pod, addrs, plan.routes); err != nil {
		return nil, undo, err
	}
	host, err := awaitUp(h, v.Host)
	if err != nil {
		return nil, undo, err
	}
	return plan.report(br, host, v, addrs), undo, nil
}
