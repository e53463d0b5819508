package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tulle/backend"
	"tulle/internal/operation"
	"tulle/internal/reach"
	"tulle/internal/version"
	"tulle/subnet"
)

// metrics are what /metrics tells, listed in Documentation/running.md.
type metrics struct {
	registry *prometheus.Registry
	ready    prometheus.Gauge
	etcdUp   prometheus.Gauge
	revision prometheus.Gauge
	peers    *prometheus.GaugeVec   // by state
	badKeys  prometheus.Gauge       // keys that are no leases
	rows     *prometheus.GaugeVec   // wanted, by kind
	passes   *prometheus.CounterVec // by why and result
	changes  *prometheus.CounterVec // by kind and operation
	took     prometheus.Histogram
	reached  *prometheus.GaugeVec   // peers by verdict
	probes   *prometheus.CounterVec // by outcome
	rtt      prometheus.Histogram
	cni      *prometheus.CounterVec   // operations of the plugin, by verb and code
	cniTook  *prometheus.HistogramVec // by verb
	health   health
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		ready:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "tulle_ready", Help: "1 when the lease is held and the kernel was as wanted once."}),
		etcdUp:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "tulle_etcd_up", Help: "1 while there is a connection to etcd and it answers what it is asked."}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tulle_etcd_revision", Help: "etcd's revision that the wanted state is from."}),
		peers:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tulle_peers", Help: "Other nodes by state: good, left out because their lease makes no sense, or awaited by a subnet that is reserved for them."}, []string{"state"}),
		badKeys:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "tulle_bad_keys", Help: "Keys among the leases that are none."}),
		rows:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tulle_rows_wanted", Help: "Rows of the kernel that are wanted, by kind."}, []string{"kind"}),
		passes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tulle_passes_total", Help: "Passes over the kernel's tables by cause and result."}, []string{"why", "result"}),
		changes:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tulle_kernel_changes_total", Help: "Rows of the kernel that were changed, by kind and operation."}, []string{"kind", "operation"}),
		took:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tulle_pass_duration_seconds", Help: "How long passes took.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
		cni:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tulle_cni_operations_total", Help: "Operations of the CNI plugin by verb and code of the result; code 0 is success."}, []string{"verb", "code"}),
		cniTook:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tulle_cni_operation_seconds", Help: "How long operations of the CNI plugin took.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)}, []string{"verb"}),
	}
	m.reached = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tulle_peers_reached", Help: "Peers that were looked at through the overlay, by verdict: good, silent, blocked, mtu-hole, checksum."}, []string{"verdict"})
	m.probes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tulle_probes_total", Help: "Small packets sent to peers through the overlay, by what became of them: answered or lost."}, []string{"outcome"})
	m.rtt = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tulle_probe_rtt_seconds", Help: "Round-trip time of small packets to peers through the overlay.", Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 10)})
	m.probed(reach.Sample{}, nil)
	m.health = newHealth(m.registry)
	for _, verb := range operation.Verbs { // so that a rate has where to begin
		m.cni.WithLabelValues(verb, "0")
		m.cniTook.WithLabelValues(verb)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tulle_build_info", Help: "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": version.Version(), "commit": version.Commit()},
	})
	build.Set(1)
	m.registry.MustRegister(m.ready, m.etcdUp, m.revision, m.peers, m.badKeys, m.rows, m.passes, m.changes, m.took, m.reached, m.probes, m.rtt, m.cni, m.cniTook, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// operation counts one of the plugin.
func (m *metrics) operation(o operation.Operation) {
	m.cni.WithLabelValues(o.Verb, strconv.FormatUint(uint64(o.Code), 10)).Inc()
	m.cniTook.WithLabelValues(o.Verb).Observe(o.Took.Seconds())
}

// guard tells what the guard drops, asked whenever somebody wants to know.
func (m *metrics) guard(drops func() (unknown, wrong uint64, err error)) {
	count := func(help, what string, pick func(unknown, wrong uint64) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "tulle_guard_drops_total", Help: help, ConstLabels: prometheus.Labels{"what": what},
		}, func() float64 {
			unknown, wrong, err := drops()
			if err != nil {
				return 0
			}
			return float64(pick(unknown, wrong))
		})
	}
	const help = "VXLAN packets that were dropped: of hosts that are no peers, and of peers with a source that is not theirs."
	m.registry.MustRegister(
		count(help, "unknown host", func(unknown, _ uint64) uint64 { return unknown }),
		count(help, "wrong source", func(_, wrong uint64) uint64 { return wrong }),
	)
}

// probed counts what a look at a peer found, and how all peers are reached now.
func (m *metrics) probed(s reach.Sample, verdicts map[reach.Verdict]int) {
	for _, v := range reach.Verdicts {
		m.reached.WithLabelValues(string(v)).Set(float64(verdicts[v]))
	}
	m.probes.WithLabelValues("lost").Add(float64(s.Lost))
	m.probes.WithLabelValues("answered").Add(float64(s.Sent - s.Lost))
	if s.Small == reach.Answered {
		m.rtt.Observe(s.RTT.Seconds())
	}
}

func (m *metrics) up(up bool) {
	if up {
		m.etcdUp.Set(1)
	} else {
		m.etcdUp.Set(0)
	}
}

func (m *metrics) snapshot(s subnet.Snapshot, p *backend.Plan) {
	leftOut, awaited := len(p.Faults()), len(p.Awaited())
	m.revision.Set(float64(s.Rev))
	m.peers.WithLabelValues("good").Set(float64(s.Leases.Len() - 1 - leftOut - awaited)) // one is our own
	m.peers.WithLabelValues("left out").Set(float64(leftOut))
	m.peers.WithLabelValues("awaited").Set(float64(awaited))
	m.badKeys.Set(float64(len(s.Faults)))
	m.health.leases.Set(float64(s.Leases.Len()))
}

// wanted counts rows that came to be wanted or are no longer.
func (m *metrics) wanted(changes []backend.Change) {
	for _, c := range changes {
		gauge := m.rows.WithLabelValues(c.Key().Kind.String())
		switch {
		case c.Have == nil:
			gauge.Inc()
		case c.Want == nil:
			gauge.Dec()
		}
	}
}

func (m *metrics) pass(p backend.Pass) {
	result := "clean"
	if p.Err != nil {
		result = "error"
	}
	m.passes.WithLabelValues(p.Why, result).Inc()
	m.took.Observe(p.Took.Seconds())
	m.health.pass(p)
	for _, c := range p.Changes {
		operation := "add"
		switch {
		case c.Want == nil:
			operation = "delete"
		case c.Have != nil:
			operation = "set"
		}
		m.changes.WithLabelValues(c.Key().Kind.String(), operation).Inc()
	}
}
