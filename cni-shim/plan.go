package main

import (
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"tulle/subnet"
)

// addPlan is all of an ADD that can be known before the pod is touched.
type addPlan struct {
	conf    netconf
	who     attachment
	args    cniArgs
	sandbox string
	file    subnet.File
	spans   [2]span
	routes  []route
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
	if plan.args, err = parseArgs(args.Args); err != nil {
		return plan, err
	}
	if err := plan.args.addTo(&plan.conf.Wish); err != nil {
		return plan, err
	}
	if plan.file, err = readSubnetFile(c.SubnetFile, types.ErrTryAgainLater); err != nil {
		return plan, err
	}
	if plan.spans, err = spans(c, plan.file); err != nil {
		return plan, err
	}
	if err := checkMTU(c, plan.file); err != nil {
		return plan, err
	}
	if err := plan.conf.Wish.check(plan.spans); err != nil {
		return plan, err
	}
	if plan.routes, err = podRoutes(c, plan.file); err != nil {
		return plan, err
	}
	plan.result, err = prevResult(c)
	return plan, err
}

// podMAC is the MAC of the pod's end.
func (plan addPlan) podMAC(addrs []address) net.HardwareAddr {
	if mac, err := net.ParseMAC(plan.conf.Wish.MAC); err == nil {
		return mac
	}
	return macOf(addrs[0].Prefix)
}
