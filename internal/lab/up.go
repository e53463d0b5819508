package lab

import (
	"context"
	"errors"
	"fmt"
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
	l.progress(fmt.Sprintf("hosts: underlay, node1 to node%d, outside", o.Nodes))
	l.Hosts = append(l.Hosts, l.newHost("underlay", RoleUnderlay, underlayRouter.Addr()))
	for i := 1; i <= o.Nodes; i++ {
		l.Hosts = append(l.Hosts, l.newHost(fmt.Sprintf("node%d", i), RoleNode, nodeAddr(i)))
	}
	l.Hosts = append(l.Hosts, l.newHost("outside", RoleOutside, outsideAddr))
	// One after the other: each pid is in the state file before the next exists.
	for _, h := range l.Hosts {
		err := startHost(ctx, h, l.Bin)
		if err := errors.Join(err, l.save()); err != nil {
			return err
		}
	}

	l.progress(fmt.Sprintf("underlay: %s for nodes, %s for the outside", underlayRouter.Masked(), outsideRouter.Masked()))
	underlay := l.Hosts[0]
	if err := setUpUnderlay(underlay); err != nil {
		return err
	}
	for _, h := range l.Hosts[1:] {
		bridge, router := underlayBridge, underlayRouter
		if h.Role == RoleOutside {
			bridge, router = outsideBridge, outsideRouter
		}
		if err := plug(underlay, h, bridge, router); err != nil {
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

	l.progress("etcd: " + EtcdURL)
	if err := l.StartEtcd(ctx); err != nil {
		return err
	}
	l.progress("network: tullectl network set --network " + podNetwork.String())
	if err := l.SetNetwork(ctx, "--network", podNetwork.String()); err != nil {
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
