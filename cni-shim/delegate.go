package main

import "encoding/json"

// delegate is flannel's field of that name: what its plugin handed on to the
// reference bridge plugin. It is taken as it is, with flannel's defaults, so that
// this plugin can stand where flannel's stood. Where it is absent the object has
// no fields at all.
func (top *object) delegate() *object {
	if !top.has("delegate") {
		top.raw("delegate")
		return &object{path: "delegate.", faults: top.faults}
	}
	d := top.object("delegate")
	if t := field(d, "type", "bridge"); t != "bridge" {
		d.fault("type", "%q: tulle wires pods to a bridge itself; leave it out, or write \"bridge\"", t)
	}
	if !field(d, "isGateway", true) {
		d.fault("isGateway", "false: the bridge is always the pods' gateway to the cluster")
	}
	if field(d, "ipMasq", false) {
		d.fault("ipMasq", "true: tulled masquerades, once for the node (its flag ip-masq); leave it out")
	}
	if v := field(d, "vlan", 0); v != 0 {
		d.fault("vlan", "%d: tulle's bridge has no VLANs; leave it out", v)
	}
	// Addresses of another subnet are always moved over, and the rest is about
	// VLANs and about duplicate addresses, which cannot be here.
	for _, key := range []string{"forceAddress", "preserveDefaultVlan", "enabledad", "macspoofchk", "disableContainerInterface"} {
		if field(d, key, false) && key != "forceAddress" && key != "preserveDefaultVlan" {
			d.fault(key, "true is not supported; leave it out")
		}
	}
	for _, key := range []string{"name", "ipam"} {
		if d.has(key) {
			d.fault(key, "must not be here: it stands beside delegate")
		}
		d.raw(key)
	}
	return d
}

// shared reads a field that tulle has at the top and flannel inside delegate.
func shared[T comparable](top, delegate *object, key string, absent T) T {
	outer := field(top, key, absent)
	if delegate.fields == nil {
		return outer
	}
	inner := field(delegate, key, absent)
	if !top.has(key) {
		return inner
	}
	if delegate.has(key) && inner != outer {
		in, _ := json.Marshal(inner)
		delegate.fault(key, "%s contradicts %s: %s; give it once", in, key, short(top.fields[key]))
	}
	return outer
}
