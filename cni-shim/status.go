package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// status says whether an ADD could succeed now. A range that is full of pods that
// are gone counts as full: it takes an ADD to find that out.
func status(args *skel.CmdArgs) error {
	conf, err := parseNetconf(args.StdinData)
	if err != nil {
		return err
	}
	file, err := readSubnetFile(conf.SubnetFile, types.ErrPluginNotAvailable)
	if err != nil {
		return err
	}
	all, err := spans(conf, file)
	if err != nil {
		return err
	}
	if err := wantBridge(conf, file).possible(); err != nil {
		return coded(types.ErrPluginNotAvailable, err)
	}
	store, err := openExistingIPAM(conf)
	if store == nil {
		return err
	}
	defer store.close()
	l, err := store.list()
	if err != nil {
		return coded(types.ErrPluginNotAvailable, err)
	}
	for _, s := range all {
		if u := s.usage(l.taken); s.Bridge.IsValid() && u.full() {
			return coded(types.ErrPluginNotAvailable, u.err(conf.Name, store.path))
		}
	}
	return nil
}
