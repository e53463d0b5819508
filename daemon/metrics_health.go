package main

import (
	"math"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tulle/backend"
)

// health are the metrics of what goes wrong and of what runs out.
type health struct {
	leases  prometheus.Gauge
	repairs *prometheus.CounterVec // by kind
	drift   *prometheus.CounterVec // by kind
	refused *prometheus.CounterVec // by kind
	latency prometheus.Histogram
}

func newHealth(r *prometheus.Registry) health {
	kinds := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"kind"})
		for k := backend.Kind(0); k < 16; k++ { // so that the first one is an increase
			if backend.AllKinds.Has(k) {
				c.WithLabelValues(k.String())
			}
		}
		return c
	}
	h := health{
		leases:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "tulle_leases", Help: "Leases in etcd, our own among them."}),
		repairs: kinds("tulle_repairs_total", "Rows of the kernel that were put right after somebody else had changed them, by kind."),
		drift:   kinds("tulle_drift_total", "Rows of the kernel that were found not as wanted though they had been, by kind; repaired or not."),
		refused: kinds("tulle_apply_errors_total", "Changes that the kernel refused, by kind."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tulle_update_latency_seconds", Help: "From an event of etcd that changes what is wanted, to the kernel having it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
		}),
	}
	r.MustRegister(h.leases, h.repairs, h.drift, h.refused, h.latency)
	return h
}

// pass notes what a pass found and could not do.
func (h health) pass(p backend.Pass) {
	count := func(c *prometheus.CounterVec, changes []backend.Change) {
		for _, change := range changes {
			c.WithLabelValues(change.Key().Kind.String()).Inc()
		}
	}
	refused := backend.Refused(p.Err)
	count(h.refused, refused)
	if p.Why != backend.WhyUpdate {
		count(h.repairs, p.Changes)
		count(h.drift, p.Changes)
		count(h.drift, refused)
	}
}

// measure notes how long it took until the kernel had what etcd told of. A pass
// that had begun before says nothing of it. The caller holds d.mu.
func (d *daemon) measure(p backend.Pass) {
	if since := time.Since(d.changed); !d.changed.IsZero() && p.Err == nil && since >= p.Took {
		d.metrics.health.latency.Observe(since.Seconds())
		d.changed = time.Time{}
	}
}

// follow tells of the daemon what is only known at the moment of asking.
func (m *metrics) follow(d *daemon) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("tulle_etcd_round_trip_seconds", "Round trip on the connection to etcd, as the kernel measures it; NaN without one.", func() float64 {
		if s := d.storeNow(); s != nil {
			if took, ok := s.RoundTrip(); ok {
				return took.Seconds()
			}
		}
		return math.NaN()
	})
	gauge("tulle_lease_left_seconds", "Until our lease runs out, unless it is renewed; infinite for a reservation, NaN before there is one.", func() float64 {
		s := d.storeNow()
		if s == nil {
			return math.NaN()
		}
		alive, ttl := s.Alive()
		if ttl == 0 {
			return math.Inf(1)
		}
		return time.Until(alive.Add(ttl)).Seconds()
	})
	gauge("tulle_state_file_age_seconds", "Since the state file was last written, which happens when there is something new; NaN without one.", func() float64 {
		info, err := os.Stat(memoryPath(d.config))
		if err != nil {
			return math.NaN()
		}
		return time.Since(info.ModTime()).Seconds()
	})
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tulle_watch_restarts_total", Help: "How often all leases were read again, because the watch could not go on.",
	}, func() float64 {
		if s := d.storeNow(); s != nil {
			return float64(s.Restarts())
		}
		return 0
	}))
}
