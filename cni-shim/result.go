package main

import (
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
)

// report is the result of an ADD: what the plugins before us made, then the
// bridge, the host's end and the pod's end, to which the addresses belong.
func (plan addPlan) report(br *netlink.Bridge, host netlink.Link, v veth, addrs []address) *current.Result {
	r := plan.result
	inPod := len(r.Interfaces) + 2
	r.Interfaces = append(r.Interfaces,
		&current.Interface{Name: br.Name, Mac: br.HardwareAddr.String()},
		&current.Interface{Name: v.Host, Mac: host.Attrs().HardwareAddr.String()},
		&current.Interface{Name: v.Pod, Mac: v.PodMAC.String(), Sandbox: plan.sandbox},
	)
	if plan.conf.CNIVersion == current.ImplementedSpecVersion {
		for _, i := range r.Interfaces[inPod-2:] {
			i.Mtu = v.MTU // older versions have no such field
		}
	}
	for _, a := range addrs {
		r.IPs = append(r.IPs, &current.IPConfig{
			Interface: current.Int(inPod),
			Address:   *ipNet(a.Prefix),
			Gateway:   a.Gateway.AsSlice(),
		})
	}
	for _, rt := range plan.routes {
		r.Routes = append(r.Routes, rt.result())
	}
	if !plan.conf.DNS.IsEmpty() {
		r.DNS = plan.conf.DNS
	}
	return r
}

// prevResult is the result of the plugins before us, empty where there are none.
func prevResult(c netconf) (*current.Result, error) {
	if c.PrevResult == nil {
		return &current.Result{CNIVersion: current.ImplementedSpecVersion}, nil
	}
	invalid := func(err error) error {
		return coded(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err))
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(c.PrevResult, &fields); err != nil {
		return nil, invalid(err)
	}
	// It is of the configuration's version, and before 1.0.0 need not say so.
	text, err := json.Marshal(c.CNIVersion)
	if err != nil {
		return nil, invalid(err)
	}
	fields["cniVersion"] = text
	if text, err = json.Marshal(fields); err != nil {
		return nil, invalid(err)
	}
	prev, err := version.NewResult(c.CNIVersion, text)
	if err != nil {
		return nil, invalid(err)
	}
	r, err := current.NewResultFromResult(prev)
	if err != nil {
		return nil, invalid(err)
	}
	if err := whole(r); err != nil {
		return nil, invalid(err)
	}
	return r, nil
}

// whole refuses what the library lets pass and nobody can pass on: entries that are
// null, and an address or a route that leads nowhere.
func whole(r *current.Result) error {
	for n, i := range r.Interfaces {
		if i == nil {
			return fmt.Errorf("interfaces[%d] is null", n)
		}
	}
	for n, ip := range r.IPs {
		if ip == nil || !prefixOf(&ip.Address).IsValid() {
			return fmt.Errorf("ips[%d] has no address", n)
		}
		if ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(r.Interfaces)) {
			return fmt.Errorf("ips[%d].interface: %d is none of the %d interfaces", n, *ip.Interface, len(r.Interfaces))
		}
	}
	for n, rt := range r.Routes {
		if rt == nil || !prefixOf(&rt.Dst).IsValid() {
			return fmt.Errorf("routes[%d] has no destination", n)
		}
	}
	return nil
}
