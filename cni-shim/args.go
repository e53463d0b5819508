package main

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// cniArgs is what CNI_ARGS tells.
type cniArgs struct {
	// label is what the veth's alias says to a person: the pod as Kubernetes
	// knows it; empty where it is not told.
	label string
	ips   []string
	mac   string
}

// parseArgs reads pairs of the form KEY=VALUE with semicolons between them.
func parseArgs(text string) (cniArgs, error) {
	var args cniArgs
	var namespace, pod string
	var unknown []string
	ignore := false
	for pair := range strings.SplitSeq(text, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok:
			return args, badArgs("%q is not of the form KEY=VALUE", pair)
		case key == "K8S_POD_NAMESPACE":
			namespace = value
		case key == "K8S_POD_NAME":
			pod = value
		case key == "K8S_POD_INFRA_CONTAINER_ID", key == "K8S_POD_UID":
		case key == "IP":
			args.ips = append(args.ips, strings.Split(value, ",")...)
		case key == "MAC":
			args.mac = value
		case key == "IgnoreUnknown":
			ignore = value == "1" || strings.EqualFold(value, "true")
		default:
			unknown = append(unknown, pair)
		}
	}
	if len(unknown) > 0 && !ignore {
		return args, badArgs("%s is not supported; known are IP, MAC, K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_INFRA_CONTAINER_ID, "+
			"K8S_POD_UID and IgnoreUnknown=1, which lets others pass", strings.Join(unknown, ", "))
	}
	if namespace != "" && pod != "" {
		args.label = namespace + "/" + pod
	}
	return args, nil
}

func badArgs(format string, args ...any) error {
	return coded(types.ErrInvalidEnvironmentVariables, fmt.Errorf("CNI_ARGS: "+format, args...))
}

// addTo puts what the arguments ask for into the wish.
func (a cniArgs) addTo(w *wish) error {
	for _, ip := range a.ips {
		if err := w.addIP(ip); err != nil {
			return badArgs("IP: %w", err)
		}
	}
	if a.mac != "" {
		if err := w.addMAC(a.mac); err != nil {
			return badArgs("MAC: %w", err)
		}
	}
	return nil
}

// alias is the label, or the container's ID where there is none, as long as the
// kernel takes it.
func (a cniArgs) alias(containerID string) string {
	const most = 255 // IFALIASZ less one
	text := containerID
	if a.label != "" {
		text = a.label
	}
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
