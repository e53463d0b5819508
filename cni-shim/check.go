package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// check compares what ADD answered with what there is, and names each
// difference.
func check(args *skel.CmdArgs) error {
	conf, err := parseNetconf(args.StdinData)
	if err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return coded(types.ErrInvalidNetworkConfig, errors.New("prevResult is missing: CHECK compares with the result of ADD"))
	}
	prev, err := prevResult(conf)
	if err != nil {
		return err
	}
	a := attachmentOf(args)
	want, err := wantWiring(conf, a, prev)
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

	have, err := haveWiring(conf, a, h, p)
	if err != nil {
		return err
	}
	if wrong := want.differences(have); len(wrong) > 0 {
		return fmt.Errorf("%s of container %s: %s", a.IfName, a.ContainerID, strings.Join(wrong, "; "))
	}
	return nil
}
