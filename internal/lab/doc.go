// Package lab builds hosts in namespaces of the kernel, with a real etcd, real
// daemons and pods attached by the real plugin, and proves that they work.
//
//	                 underlay (a host: bridge, router, etcd)
//	     198.51.100.1 ┌──────────────────────────────────┐ 192.0.2.1
//	   ┌──────────────┤                                  ├─────────────┐
//	   │              └──────────┬────────────┬──────────┘             │
//	outside                    node1        node2         ...        nodeN
//	198.51.100.10            192.0.2.11   192.0.2.12
//	2001:db8:1::10           2001:db8::11 2001:db8::12
//	                         tulled       tulled
//	                          cni0         cni0
//	                         ┌─┴──────┐   ┌─┴──────┐
//	                      pod1-1 pod1-2  pod2-1 pod2-2
//
// Hosts have addresses of IPv4, of IPv6 or of both, and so have pods.
//
// A host is a process, `tullectl lab init`, that is pid 1 of its own pid, mount,
// network, host name and IPC namespaces. Everything of a host hangs on it: when
// it dies, the kernel takes the whole host away. The machine keeps a directory
// below /run/tulle-lab and gets no interface, route, rule, mount or setting.
//
// Commands and sockets get into a host or a pod through a thread of this
// process that joins the namespaces and is thrown away afterwards (Place).
package lab
