package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Up brings a lab up. It lives as long as this process unless Detach is called.
// When Up fails, or ctx ends before it is done, it leaves nothing.
func Up(ctx context.Context, o Options) (*Lab, error) {
	l, err := claim(o)
	if err != nil {
		return nil, err
	}
	if err := l.bringUp(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // and not what it made fail
		}
		if _, downErr := l.Down(context.WithoutCancel(ctx)); downErr != nil {
			err = errors.Join(err, downErr)
		}
		return nil, err
	}
	return l, nil
}

func (l *Lab) bringUp(ctx context.Context, o Options) error {
	members := ""
	if o.EtcdMembers > 1 {
		members = fmt.Sprintf("etcd1 to etcd%d, ", o.EtcdMembers)
	}
	l.progress(fmt.Sprintf("hosts: underlay, %snode1 to node%d, outside", members, o.Nodes))
	router := l.hostAddrs(func(a addressing) netip.Addr { return a.underlay.Addr() })
	l.Hosts = append(l.Hosts, l.newHost("underlay", RoleUnderlay, "", router))
	if o.EtcdMembers > 1 {
		for i := 1; i <= o.EtcdMembers; i++ {
			l.Hosts = append(l.Hosts, l.newHost(fmt.Sprintf("etcd%d", i), RoleEtcd, firstLink, l.hostAddrs(func(a addressing) netip.Addr { return a.etcd(i) })))
		}
	}
	for i := 1; i <= o.Nodes; i++ {
		on := o.link(i)
		l.Hosts = append(l.Hosts, l.newHost(fmt.Sprintf("node%d", i), RoleNode, on, l.hostAddrs(func(a addressing) netip.Addr { return a.node(i, on) })))
	}
	l.Hosts = append(l.Hosts, l.newHost("outside", RoleOutside, outsideLink, l.hostAddrs(func(a addressing) netip.Addr { return a.stranger })))
	// One after the other: each pid is in the state file before the next exists.
	for _, h := range l.Hosts {
		err := startHost(ctx, h, l.Bin, l.own)
		if err := errors.Join(err, l.save()); err != nil {
			return err
		}
	}

	for _, f := range l.Underlay.List() {
		nodes := addresses[f].underlay.Masked().String()
		if o.Links == 2 {
			nodes += " and " + addresses[f].beyond.Masked().String()
		}
		l.progress(fmt.Sprintf("underlay: %s for nodes, %s for the outside", nodes, addresses[f].outside.Masked()))
	}
	if err := l.setUpUnderlay(l.Hosts[0]); err != nil {
		return err
	}
	for _, h := range l.Hosts[1:] {
		if err := l.plug(h); err != nil {
			return err
		}
	}
	if o.Nodes >= manyNodes {
		if err := each(l.Nodes(), func(h *Host) error { return introduce(h, l.Nodes()) }); err != nil {
			return err
		}
	}
	if err := startServe(ctx, l.Host("outside"), nil); err != nil {
		return err
	}

	if o.Bare {
		return nil
	}
	l.progress("etcd: " + l.EtcdEndpoints())
	if err := l.StartEtcd(ctx); err != nil {
		return err
	}
	flags := append(l.networkFlags(), o.Network...)
	l.progress("network: tullectl network set " + strings.Join(flags, " "))
	if err := l.SetNetwork(ctx, flags...); err != nil {
		return err
	}
	l.progress(fmt.Sprintf("tulled: on %d nodes, until each is ready", o.Nodes))
	if err := each(l.Nodes(), func(h *Host) error { return h.StartDaemon(ctx) }); err != nil {
		return err
	}
	if err := each(l.Nodes(), func(h *Host) error { return h.WaitReady(ctx) }); err != nil {
		return err
	}
	l.progress("peers: until every node has a route to every other")
	if err := l.WaitPeers(ctx); err != nil {
		return err
	}
	if o.Pods > 0 {
		l.progress(fmt.Sprintf("pods: %d on each node, attached by the plugin tulle", o.Pods))
	}
	return each(l.Nodes(), func(h *Host) error {
		for i := 1; i <= o.Pods; i++ {
			if _, err := l.AddPod(ctx, h, fmt.Sprintf("pod%s-%d", h.Name[len("node"):], i)); err != nil {
				return err
			}
		}
		return nil
	})
}
