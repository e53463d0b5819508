package lab

import "testing"

// The daemon counts what the plugin does on its host.
func TestPluginIsCounted(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 1, Pods: 2})
	node := l.Nodes()[0]
	heals(t, func() error {
		if metric(t, node, "tulle_cni_operations_total") < 2 || metric(t, node, "tulle_cni_operation_seconds_count") < 2 {
			return errNot("the two ADDs are counted")
		}
		return nil
	})
}
