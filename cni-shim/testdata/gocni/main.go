// Command gocni attaches one pod as Nomad and containerd do, through the library
// go-cni: gocni add|check|del LIST PLUGINS ID NAMESPACE. It is a module of its own,
// so that the library is no dependency of tulle.
package main

import (
	"context"
	"fmt"
	"os"

	cni "github.com/containerd/go-cni"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, verb, list, plugins, id, namespace string) error {
	c, err := cni.New(cni.WithPluginDir([]string{plugins}), cni.WithInterfacePrefix("eth"), cni.WithMinNetworkCount(1))
	if err != nil {
		return err
	}
	if err := c.Load(cni.WithConfListFile(list)); err != nil {
		return err
	}
	// What Nomad 1.9 says of a group: its labels, its ports and nothing else.
	options := []cni.NamespaceOpts{
		cni.WithCapabilityPortMap([]cni.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 8080, ContainerPort: 80, Protocol: "udp"}}),
		cni.WithLabels(map[string]string{"IgnoreUnknown": "true", "NOMAD_REGION": "global", "NOMAD_GROUP_NAME": "web"}),
	}
	switch verb {
	case "add":
		r, err := c.Setup(ctx, id, namespace, options...)
		if err != nil {
			return err
		}
		for _, ip := range r.Interfaces["eth0"].IPConfigs {
			fmt.Println(ip.IP)
		}
		return nil
	case "check":
		return c.Check(ctx, id, namespace, options...)
	}
	return c.Remove(ctx, id, namespace, options...)
}
