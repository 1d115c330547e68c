// Package metrics shows the fleet, the healer and this process to Prometheus. It is told what happens and asks for what is; it watches
// nothing by itself. Every label is a name of the config or one of few words.
package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dcshealer/policies"
)

const namespace = "dcshealer"

// Facts are what a scrape shows of the moment.
type Facts struct {
	Config   policies.Config
	Groups   []policies.Group // the newest snapshot of each node; empty: nobody probes in this process
	Standing []policies.Alarm // those that the agent of this process has raised
	Machines []Machine
	Bus      Bus
	Late     policies.Opt[int64] // probes that began late, since the start
	Tilted   policies.Opt[bool]  // our own loop or clock is not to be trusted
	Healer   bool                // a healer runs on the state_dir
	Journal  policies.Opt[bool]  // that healer can write its journal

	Receivers []Receiver // of notifications
}

// Receiver is what came of the notifications for one receiver, also before this process.
type Receiver struct {
	Name      string
	Pending   int // events
	Dead      int // notices
	Delivered int64
	Failed    int64 // tries
}

// Machine is what is known of the healer's work on an instance.
type Machine struct {
	Instance string
	State    policies.State
	Modes    map[policies.Action]policies.Mode
	Breakers map[policies.Action]string
	Paused   bool
	Open     int // incidents
}

// Bus is the transport of alarms, as this process sees it.
type Bus struct {
	Connected bool
	Queued    int64 // alarms that wait for it
	Owed      int64 // alarms that went out and wait for the stream
	Delivered int64
	Dropped   int64 // alarms that a full queue has lost before they went out
	Refused   int64
	NotAdded  int64            // alarms that went out and never came into the stream
	Unread    map[string]int64 // messages that a full queue has lost after they came in, by reader
	Deaf      map[string]int64 // how often a reader heard nothing of its own canary, by reader
	Missing   map[string]int64 // alarms that have not come, by source; nil: nobody looks for them in this process
	Ignored   map[string]int64 // messages without a good signature that the healer has not taken, by kind; nil: no healer in this process
}

// Metrics counts and shows. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	alarms   *prometheus.CounterVec
	actions  *prometheus.CounterVec
	refusals *prometheus.CounterVec
}

// New makes Metrics with a registry of their own. facts is called at each scrape, from several goroutines at once.
func New(version string, facts func() Facts) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		alarms:   counter("alarms_total", "Alarms received on the bus, by severity and status.", "severity", "status"),
		actions:  counter("actions_total", "Decisions of the healer that came to an outcome, by action (none: no action cures the fault).", "action", "outcome"),
		refusals: counter("guard_refusals_total", "Denials by guards in decisions of the healer.", "guard"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "1, labelled with what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.alarms, m.actions, m.refusals, build, collector{facts}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin()
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// begin has every counter there from the start at 0, so that its first rise shows.
func (m *Metrics) begin() {
	for _, s := range policies.Severities {
		m.alarms.WithLabelValues(s.String(), string(policies.Firing))
		m.alarms.WithLabelValues(s.String(), string(policies.Resolved))
	}
	for _, o := range policies.Outcomes {
		if o == policies.OutcomeRunning {
			continue // it has not come to one
		}
		for _, a := range policies.Actions {
			m.actions.WithLabelValues(string(a), string(o))
		}
	}
	for _, g := range policies.Guards {
		m.refusals.WithLabelValues(string(g))
	}
}

// Alarm counts one that was received.
func (m *Metrics) Alarm(a policies.Alarm) {
	status := policies.Firing
	if a.IsResolved() {
		status = policies.Resolved
	}
	m.alarms.WithLabelValues(a.Severity.String(), string(status)).Inc()
}

// Decision counts a record that has come to its outcome, once.
func (m *Metrics) Decision(r policies.Record) {
	action := string(r.Action)
	if action == "" {
		action = "none"
	}
	m.actions.WithLabelValues(action, string(r.Outcome)).Inc()
	for _, g := range r.DeniedBy {
		m.refusals.WithLabelValues(string(g)).Inc()
	}
}

// Handler serves the text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.HTTPErrorOnError})
}
