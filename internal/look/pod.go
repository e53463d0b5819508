package look

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"tulle/internal/trace"
)

// networksDir is where host-local and tulle keep which container has which
// address: a file for each, named for it.
const networksDir = "/var/lib/cni/networks"

// readPods finds the pods whose addresses are kept, and the devices that lead to
// them. tulle keeps a second name of each file, which begins with the device's.
func (h *Host) readPods() error {
	files, err := filepath.Glob(networksDir + "/*/*")
	if err != nil {
		return err
	}
	veths := map[string]string{} // by directory and address
	for _, file := range files {
		if veth, a, ok := strings.Cut(filepath.Base(file), "_"); ok && strings.HasPrefix(veth, "veth") {
			veths[filepath.Join(filepath.Dir(file), a)] = veth
		}
	}
	for _, file := range files {
		a, err := netip.ParseAddr(filepath.Base(file))
		if err != nil {
			continue
		}
		pod := trace.Pod{Addr: a, Veth: veths[file]}
		text, _ := os.ReadFile(file)
		pod.Container, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
		pod.Container = strings.TrimSpace(pod.Container)
		if pod.Veth == "" {
			pod.Veth = h.portOf(a)
		}
		if link, ok := h.Link(pod.Veth); ok {
			pod.Name = link.Alias
		}
		h.pods = append(h.pods, pod)
	}
	return nil
}

// portOf is the bridge's port that an address was seen behind.
func (h *Host) portOf(a netip.Addr) string {
	for _, l := range h.links {
		if n, ok := h.Neigh(l.Name, a); ok && l.Kind == "bridge" {
			row, _ := h.FDB(l.Name, n.MAC)
			return row.Port
		}
	}
	return ""
}

// Pods are those whose devices are there.
func (h *Host) Pods() []trace.Pod {
	var list []trace.Pod
	for _, p := range h.pods {
		if _, lives := h.Link(p.Veth); lives {
			list = append(list, p)
		}
	}
	return list
}

// Pod implements trace.World.
func (h *Host) Pod(a netip.Addr) (trace.Pod, bool) {
	for _, p := range h.pods {
		if p.Addr == a {
			return p, true
		}
	}
	return trace.Pod{}, false
}

// AnyPod implements trace.World.
func (h *Host) AnyPod(like netip.Addr) (trace.Pod, bool) {
	for _, p := range h.Pods() {
		if p.Addr != like && p.Addr.BitLen() == like.BitLen() {
			return p, true
		}
	}
	return trace.Pod{}, false
}
