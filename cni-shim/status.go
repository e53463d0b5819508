package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// status says whether an ADD could succeed now.
func status(args *skel.CmdArgs) error {
	conf, err := parseNetconf(args.StdinData)
	if err != nil {
		return err
	}
	file, err := readSubnetFile(conf.SubnetFile, types.ErrPluginNotAvailable)
	if err != nil {
		return err
	}
	for _, s := range file.Subnets {
		if !s.IsValid() {
			continue
		}
		u, err := usageOf(conf.reservationDir(), s)
		if err != nil {
			return coded(types.ErrPluginNotAvailable, err)
		}
		if u.full() {
			return coded(types.ErrPluginNotAvailable, u.err(conf.Name))
		}
	}
	return nil
}
