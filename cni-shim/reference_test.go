package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// The chain that flannel delegates to and this plugin get the same input, and
// their answers are compared field by field in every version.
func TestResultsAreThoseOfTheReferencePlugins(t *testing.T) {
	t.Parallel()
	buildReference(t, "plugins/main/bridge")
	buildReference(t, "plugins/ipam/host-local")
	const dns = `"dns": {"nameservers": ["10.96.0.10"], "domain": "cluster.local", "search": ["svc.cluster.local"], "options": ["ndots:5"]}`
	tests := []struct {
		name, subnet string
		ranges       string
		routes       string
		more         string // fields that both plugins have
	}{
		{"as flannel delegates", oneFamily, `[[{"subnet": "10.244.60.0/24"}]]`, `[{"dst": "10.244.0.0/16"}]`, `"isDefaultGateway": true, "hairpinMode": true`},
		{"two families, and dns", twoFamilies, `[[{"subnet": "10.244.60.0/24"}], [{"subnet": "fd42:0:0:3::/64"}]]`,
			`[{"dst": "10.96.0.0/12", "gw": "10.244.60.1"}, {"dst": "10.244.0.0/16", "mtu": 1400}]`, `"isDefaultGateway": true, "hairpinMode": true, ` + dns},
		{"no default gateway, another bridge", oneFamily, `[[{"subnet": "10.244.60.0/24"}]]`, `[{"dst": "10.244.0.0/16"}]`,
			`"isDefaultGateway": false, "hairpinMode": false, "promiscMode": true, "bridge": "pods0"`},
		{"a range", oneFamily, `[[{"subnet": "10.244.60.0/24", "rangeStart": "10.244.60.20", "rangeEnd": "10.244.60.30"}]]`, `[{"dst": "10.244.0.0/16"}]`,
			`"isDefaultGateway": true, "hairpinMode": true`},
	}
	for _, tt := range tests {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			t.Run(tt.name+" in "+version, func(t *testing.T) {
				t.Parallel()
				ours, theirs := newHost(t, tt.subnet), newHost(t, "")
				span := ""
				if tt.name == "a range" {
					span = `, "rangeStart": "10.244.60.20", "rangeEnd": "10.244.60.30"`
				}
				mine, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": %q, "name": "net", "plugins": [
					{"type": "tulle", "subnetFile": %q, "ipam": {"dataDir": %q, "routes": %s%s}, %s}]}`,
					version, ours.subnetFile, ours.dataDir, tt.routes, span, tt.more))
				if err != nil {
					t.Fatal(err)
				}
				reference, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": %q, "name": "net", "plugins": [
					{"type": "bridge", "mtu": 1450, "isGateway": true, "ipam": {"type": "host-local", "dataDir": %q, "ranges": %s, "routes": %s}, %s}]}`,
					version, theirs.dataDir, tt.ranges, tt.routes, tt.more))
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range []string{"pod1", "pod2"} { // the first address, and the next
					got, want := ours.answer(mine, id), theirs.answer(reference, id)
					if got != want {
						t.Errorf("%s: tulle answers\n%s\nthe reference plugins\n%s", id, got, want)
					}
				}
			})
		}
	}
}

// answer is the result of ADD as text, without what must differ: MACs, namespaces,
// names of the host's ends, and the MTU. Routes are sorted.
func (h *host) answer(list *libcni.NetworkConfigList, id string) string {
	h.Helper()
	p := newPod(h.TB, id)
	var result map[string]any
	err := h.do(func() error {
		r, err := h.cni.AddNetworkList(h.Context(), list, p.runtime())
		if err != nil {
			return err
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &result)
	})
	if err != nil {
		h.Fatalf("ADD of %s by %s: %v", id, filepath.Base(list.Plugins[0].Network.Type), err)
	}
	// 1.1.0 has this field, and the reference plugin does not fill it in.
	for _, i := range result["interfaces"].([]any) {
		delete(i.(map[string]any), "mtu")
	}
	if routes, ok := result["routes"].([]any); ok {
		slices.SortFunc(routes, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		h.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), p.path, "POD"))
	text = regexp.MustCompile(`"veth[0-9a-f]+"`).ReplaceAll(text, []byte(`"VETH"`))
	return string(regexp.MustCompile(`"([0-9a-f]{2}:){5}[0-9a-f]{2}"`).ReplaceAll(text, []byte(`"MAC"`)))
}
