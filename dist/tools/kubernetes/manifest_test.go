// Package kubernetes holds the files that are for Kubernetes against the types of
// its API.
package kubernetes

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const manifest = "../../kubernetes/tulle.yaml"

// objects are those of the manifest.
type objects struct {
	namespace  core.Namespace
	account    core.ServiceAccount
	configMaps map[string]core.ConfigMap
	daemons    apps.DaemonSet
}

// documents are the parts of a YAML file.
func documents(text string) []string { return strings.Split("\n"+text, "\n---\n") }

// parse reads the manifest. A field that the API does not know, or that is there
// twice, fails the test.
func parse(t *testing.T) objects {
	t.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	o := objects{configMaps: map[string]core.ConfigMap{}}
	strict := func(document string, into any) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
			t.Errorf("%v\n%s", err, document)
		}
	}
	for _, document := range documents(string(text)) {
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 Namespace":
			strict(document, &o.namespace)
		case "v1 ServiceAccount":
			strict(document, &o.account)
		case "v1 ConfigMap":
			var c core.ConfigMap
			strict(document, &c)
			o.configMaps[c.Name] = c
		case "apps/v1 DaemonSet":
			strict(document, &o.daemons)
		default:
			t.Errorf("%s %s: nothing that is wanted here", kind.APIVersion, kind.Kind)
		}
	}
	return o
}

func TestManifest(t *testing.T) {
	t.Parallel()
	o := parse(t)
	d, pod := o.daemons, o.daemons.Spec.Template.Spec
	want := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %v, want %v", what, got, want)
		}
	}
	spaces := []string{o.account.Namespace, d.Namespace}
	for _, c := range o.configMaps {
		spaces = append(spaces, c.Namespace)
	}
	for _, space := range spaces {
		want("namespace of an object", space, o.namespace.Name)
	}
	want("selector", d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	want("service account", pod.ServiceAccountName, o.account.Name)
	want("token is mounted", *pod.AutomountServiceAccountToken, false)
	want("host network", pod.HostNetwork, true)
	want("other namespaces of the host", pod.HostPID || pod.HostIPC, false)
	want("priority class", pod.PriorityClassName, "system-node-critical")
	want("tolerations", pod.Tolerations, []core.Toleration{{Operator: core.TolerationOpExists}})
	want("seccomp profile", pod.SecurityContext.SeccompProfile.Type, core.SeccompProfileTypeRuntimeDefault)
	want("update strategy", d.Spec.UpdateStrategy.Type, apps.RollingUpdateDaemonSetStrategyType)
	want("init containers", len(pod.InitContainers), 1)
	want("containers", len(pod.Containers), 1)

	volumes := map[string]core.Volume{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = v
		if v.ConfigMap != nil {
			if _, ok := o.configMaps[v.ConfigMap.Name]; !ok {
				t.Errorf("volume %s is of the ConfigMap %s, which is not here", v.Name, v.ConfigMap.Name)
			}
		}
	}
	want("mode of the certificates' files", *volumes["etcd"].Secret.DefaultMode, int32(0o400))
	used := map[string]bool{}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		added := []core.Capability(nil)
		if c.Name == "tulled" {
			added = []core.Capability{"NET_ADMIN", "NET_RAW"}
		}
		want(c.Name+" drops", c.SecurityContext.Capabilities.Drop, []core.Capability{"ALL"})
		want(c.Name+" adds", c.SecurityContext.Capabilities.Add, added)
		want(c.Name+" may gain privileges", *c.SecurityContext.AllowPrivilegeEscalation, false)
		want(c.Name+" has its files read-only", *c.SecurityContext.ReadOnlyRootFilesystem, true)
		want(c.Name+" is privileged", c.SecurityContext.Privileged, (*bool)(nil))
		want(c.Name+" image", c.Image, pod.Containers[0].Image)
		want(c.Name+" asks for memory", c.Resources.Requests.Memory().IsZero(), false)
		for _, m := range c.VolumeMounts {
			used[m.Name] = true
			if _, ok := volumes[m.Name]; !ok {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
		for _, e := range c.EnvFrom {
			if _, ok := o.configMaps[e.ConfigMapRef.Name]; !ok {
				t.Errorf("%s has its environment of the ConfigMap %s, which is not here", c.Name, e.ConfigMapRef.Name)
			}
		}
	}
	for name := range volumes {
		if !used[name] {
			t.Errorf("nobody mounts the volume %s", name)
		}
	}
	tulled := pod.Containers[0]
	want("node name", tulled.Env[0].Name+" "+tulled.Env[0].ValueFrom.FieldRef.FieldPath, "TULLED_NODE_NAME spec.nodeName")
	for name, p := range map[string]*core.Probe{"startup": tulled.StartupProbe, "liveness": tulled.LivenessProbe, "readiness": tulled.ReadinessProbe} {
		path := "/healthz"
		if name == "readiness" {
			path = "/readyz"
		}
		want(name+" probe", p.HTTPGet.Host+":"+p.HTTPGet.Port.String()+p.HTTPGet.Path, "127.0.0.1:8471"+path)
	}
	// Files of the certificates lie in the Secret's folder.
	for _, variable := range []string{"TULLED_ETCD_CAFILE", "TULLED_ETCD_CERTFILE", "TULLED_ETCD_KEYFILE"} {
		path := o.configMaps["tulle"].Data[variable]
		i := slices.IndexFunc(tulled.VolumeMounts, func(m core.VolumeMount) bool { return m.Name == "etcd" })
		if !strings.HasPrefix(path, tulled.VolumeMounts[i].MountPath+"/") {
			t.Errorf("%s is %s, not in the Secret's folder %s", variable, path, tulled.VolumeMounts[i].MountPath)
		}
	}
}

// The configuration of a node is the same, however it comes there.
func TestConflist(t *testing.T) {
	t.Parallel()
	installed, err := os.ReadFile("../../10-tulle.conflist")
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(installed, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(parse(t).configMaps["tulle-cni"].Data["10-tulle.conflist"]), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("10-tulle.conflist = %v, want that of the packages %v", got, want)
	}
}
