package kubernetes

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	proxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"
)

// kubeadm's own types are in a module that can't be imported. These are the
// fields of kubeadm.k8s.io/v1beta4 that the documentation has a use for.
type initConfiguration struct {
	APIVersion       string `json:"apiVersion"`
	Kind             string `json:"kind"`
	LocalAPIEndpoint struct {
		AdvertiseAddress string `json:"advertiseAddress"`
		BindPort         int32  `json:"bindPort"`
	} `json:"localAPIEndpoint"`
	NodeRegistration struct {
		Name string `json:"name"`
	} `json:"nodeRegistration"`
}

type clusterConfiguration struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Etcd       struct {
		External struct {
			Endpoints []string `json:"endpoints"`
			CAFile    string   `json:"caFile"`
			CertFile  string   `json:"certFile"`
			KeyFile   string   `json:"keyFile"`
		} `json:"external"`
	} `json:"etcd"`
	Networking struct {
		ServiceSubnet string `json:"serviceSubnet"`
		PodSubnet     string `json:"podSubnet"`
	} `json:"networking"`
	ControlPlaneEndpoint string `json:"controlPlaneEndpoint"`
	ControllerManager    struct {
		ExtraArgs []struct{ Name, Value string } `json:"extraArgs"`
	} `json:"controllerManager"`
}

var (
	block   = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	network = regexp.MustCompile(`tullectl network set --network (\S+)`)
)

func TestKubeadmPage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../Documentation/kubeadm.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	var cluster clusterConfiguration
	var modes []string
	for _, m := range block.FindAllStringSubmatch(page, -1) {
		for _, document := range documents(m[1]) {
			var kind struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
				t.Fatal(err)
			}
			var into any
			var p proxy.KubeProxyConfiguration
			switch kind.APIVersion + " " + kind.Kind {
			case "kubeadm.k8s.io/v1beta4 InitConfiguration":
				into = &initConfiguration{}
			case "kubeadm.k8s.io/v1beta4 ClusterConfiguration":
				into = &cluster
			case "kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration":
				into = &p
			default:
				t.Errorf("%s %s is of no kind that kubeadm reads", kind.APIVersion, kind.Kind)
				continue
			}
			if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
				t.Errorf("%v\n%s", err, document)
			}
			if p.Kind != "" {
				modes = append(modes, string(p.Mode))
			}
		}
	}
	if want := []string{"iptables", "nftables", "ipvs"}; !slices.Equal(modes, want) {
		t.Errorf("modes of kube-proxy = %q, want %q", modes, want)
	}
	// What stands in two places is the same in both.
	if m := network.FindStringSubmatch(page); m == nil || m[1] != cluster.Networking.PodSubnet {
		t.Errorf("podSubnet = %s, and the network is set by %q", cluster.Networking.PodSubnet, m)
	}
	external := cluster.Etcd.External
	for _, file := range []string{external.CAFile, external.CertFile, external.KeyFile} {
		if file == "" || !strings.Contains(page, "node1:"+file+"\n") {
			t.Errorf("nobody copies %q to the control plane", file)
		}
	}
	if endpoint := parse(t).configMaps["tulle"].Data["TULLED_ETCD_ENDPOINTS"]; !slices.Equal(external.Endpoints, []string{endpoint}) {
		t.Errorf("etcd is at %q, and at %s in the manifest", external.Endpoints, endpoint)
	}
	for _, key := range []string{"etcd-ca.crt", "etcd-client.crt", "etcd-client.key"} {
		if !strings.Contains(page, "--from-file="+key+"=") {
			t.Errorf("the Secret has no %s, which the manifest names", key)
		}
	}
}
