package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"tulle/internal/flags"
	"tulle/internal/look"
	"tulle/internal/table"
	"tulle/internal/trace"
)

func traceCommand() *cobra.Command {
	var p places
	var asJSON bool
	var proto string
	var port uint16
	cmd := &cobra.Command{
		Use:   "trace [SRC] DST",
		Short: "follow a packet through this host's kernel, to where it ends",
		Long: `trace asks the kernel of this host, table by table, what it would do with a packet
for an address: bridge, route, nexthop, neighbour, FDB row, the way of the outer
packet, rules of netfilter that match, and the MTU at each step. It sends nothing,
and tulled need not run. Without a source, the packet is one of a pod of this host,
or of the host itself if there is none. The exit status is 1 if the packet ends
nowhere.`,
		Example: `  tullectl trace 10.244.200.2
  tullectl trace 10.244.193.2 10.244.200.2 --proto udp --port 53
  tullectl trace 10.96.0.10 --json | jq .end`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.FromEnv(cmd.Flags(), "status-addr", "state-dir", "subnet-file"); err != nil {
				return usageError{err}
			}
			var addrs []netip.Addr
			for _, text := range args {
				a, err := netip.ParseAddr(text)
				if err != nil {
					return usageError{fmt.Errorf("%q is not an address such as 10.244.200.2", text)}
				}
				if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
					return usageError{fmt.Errorf("%s is no address of one host, which routes lead to", a)}
				}
				addrs = append(addrs, a)
			}
			src, dst := netip.Addr{}, addrs[len(addrs)-1]
			if len(addrs) == 2 {
				if src = addrs[0]; src.BitLen() != dst.BitLen() {
					return usageError{fmt.Errorf("%s and %s are not of one family", src, dst)}
				}
			}
			if !slices.Contains([]string{"", "tcp", "udp", "icmp"}, proto) {
				return usageError{fmt.Errorf("--proto: %q is not tcp, udp or icmp", proto)}
			}
			host, err := look.Open()
			if err != nil {
				return err
			}
			k := p.read(cmd.Context())
			host.Know(k.networks(), k.peers())
			t := trace.Follow(host, src, dst, proto, port)
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, t)
			} else {
				err = t.Write(out, table.Colour(out))
			}
			if err == nil && t.Lost() {
				err = exitError{status: exitFailed}
			}
			return err
		},
	}
	p.register(cmd.Flags())
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.Flags().StringVar(&proto, "proto", "", "`protocol` that rules may ask for: tcp, udp or icmp")
	cmd.Flags().Uint16Var(&port, "port", 0, "`port` that rules may ask for")
	return cmd
}
