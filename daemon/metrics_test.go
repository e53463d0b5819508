package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"tulle/backend"
)

// TestMetricNames: names, types and help follow the conventions of Prometheus.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	d := newDaemon(config{StateDir: t.TempDir()}, zap.NewNop())
	d.metrics.guard(func() (unknown, wrong uint64, err error) { return 0, 0, nil })
	problems, err := testutil.GatherAndLint(d.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "tulle_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestMetricsOfPasses: what a pass was for decides what is counted.
func TestMetricsOfPasses(t *testing.T) {
	t.Parallel()
	row := backend.Sysctl{Name: "net/ipv4/ip_forward", Value: "1"}
	change := backend.Change{Want: row}
	refusal := &backend.ChangeError{Change: change, Err: errors.New("no")}
	for _, tt := range []struct {
		name                    string
		pass                    backend.Pass
		repairs, drift, refused float64
	}{
		{"what is wanted changed", backend.Pass{Why: backend.WhyUpdate, Changes: []backend.Change{change}}, 0, 0, 0},
		{"what is wanted changed, and the kernel refuses", backend.Pass{Why: backend.WhyUpdate, Err: refusal}, 0, 0, 1},
		{"somebody changed a row", backend.Pass{Why: backend.WhyWake, Changes: []backend.Change{change}}, 1, 1, 0},
		{"a row was found by chance", backend.Pass{Why: backend.WhyTimer, Changes: []backend.Change{change}}, 1, 1, 0},
		{"somebody changed a row, and the kernel refuses", backend.Pass{Why: backend.WhyWake, Err: errors.Join(refusal)}, 0, 1, 1},
		{"nothing was to be done", backend.Pass{Why: backend.WhyTimer}, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMetrics()
			m.pass(tt.pass)
			for name, got := range map[string]struct{ have, want float64 }{
				"repairs": {testutil.ToFloat64(m.health.repairs.WithLabelValues("sysctl")), tt.repairs},
				"drift":   {testutil.ToFloat64(m.health.drift.WithLabelValues("sysctl")), tt.drift},
				"refused": {testutil.ToFloat64(m.health.refused.WithLabelValues("sysctl")), tt.refused},
			} {
				if got.have != got.want {
					t.Errorf("%s: %v, want %v", name, got.have, got.want)
				}
			}
		})
	}
}

// TestLatency: a change is counted once, by the first clean pass that began
// after it.
func TestLatency(t *testing.T) {
	t.Parallel()
	d := newDaemon(config{StateDir: t.TempDir()}, zap.NewNop())
	observed := func() uint64 {
		families, err := d.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "tulle_update_latency_seconds" {
				return f.GetMetric()[0].GetHistogram().GetSampleCount()
			}
		}
		t.Fatal("no metric tulle_update_latency_seconds")
		return 0
	}
	d.changed = time.Now()
	d.measure(backend.Pass{Took: time.Hour}) // it had begun before
	d.measure(backend.Pass{Err: errors.New("no")})
	if n := observed(); n != 0 {
		t.Errorf("counted %d times by a pass that had begun before, or failed", n)
	}
	d.measure(backend.Pass{})
	d.measure(backend.Pass{})
	if n := observed(); n != 1 {
		t.Errorf("counted %d times, want once", n)
	}
}
