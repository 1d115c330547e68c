package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"dcshealer/policies"
)

// A collector turns the facts of the moment into metrics. What is not known has no sample: it is never 0.
type collector struct{ facts func() Facts }

// Describe sends nothing: which samples there are depends on the fleet.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the samples of one scrape.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	f, out := c.facts(), sink{ch}
	out.gauge("instances", "Instances in the config.", float64(len(f.Config.Instances)))
	for _, g := range f.Groups {
		for _, s := range g.Snapshots {
			out.node(s)
			out.replication(g, s)
		}
	}
	out.machines(f.Machines)
	out.standing(f)
	out.process(f)
	for _, r := range f.Receivers {
		out.receiver(r)
	}
}

// sink sends samples.
type sink struct{ to chan<- prometheus.Metric }

func (k sink) send(kind prometheus.ValueType, name, help string, v float64, pairs ...string) {
	var labels, values []string
	for i := 0; i+1 < len(pairs); i += 2 {
		labels, values = append(labels, pairs[i]), append(values, pairs[i+1])
	}
	desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	k.to <- prometheus.MustNewConstMetric(desc, kind, v, values...)
}

func (k sink) gauge(name, help string, v float64, pairs ...string) {
	k.send(prometheus.GaugeValue, name, help, v, pairs...)
}

// flag is 1 or 0.
func (k sink) flag(name, help string, v bool, pairs ...string) {
	n := 0.0
	if v {
		n = 1
	}
	k.gauge(name, help, n, pairs...)
}

// reading sends a value of a node where it is known.
func reading[T int64 | float64](k sink, kind prometheus.ValueType, name, help string, v policies.Opt[T], s policies.Snapshot) {
	if v.Known {
		k.send(kind, "node_"+name, help, float64(v.V), "instance", s.Instance, "node", s.Node)
	}
}

const (
	gauge = prometheus.GaugeValue
	count = prometheus.CounterValue
)

// node sends what a node says of itself.
func (k sink) node(s policies.Snapshot) {
	own := []string{"instance", s.Instance, "node", s.Node}
	k.flag("node_up", "1 where the newest probe read the node.", s.Reach == policies.ReachUp, own...)
	k.gauge("node_probe_duration_seconds", "How long the newest probe took.", s.Took.Seconds(), own...)
	k.gauge("node_probe_timestamp_seconds", "When the newest probe began, in Unix time.", float64(s.At.UnixMilli())/1000, own...)
	if s.RTT > 0 {
		k.gauge("node_round_trip_seconds", "Round trip of one INFO.", s.RTT.Seconds(), own...)
	}
	reading(k, gauge, "uptime_seconds", "Since the start of the server.", s.UptimeSeconds, s)
	m := s.Memory
	reading(k, gauge, "memory_counted_bytes", "Memory that the server compares with maxmemory.", m.Counted(), s)
	reading(k, gauge, "memory_max_bytes", "maxmemory; 0: no limit.", m.Max, s)
	reading(k, gauge, "memory_used_bytes", "used_memory.", m.Used, s)
	reading(k, gauge, "memory_rss_bytes", "used_memory_rss.", m.RSS, s)
	reading(k, gauge, "memory_fragmentation_ratio", "mem_fragmentation_ratio.", m.FragmentationX, s)
	reading(k, gauge, "clients", "Connected clients, replicas left out.", s.Clients.Connected, s)
	reading(k, gauge, "clients_max", "maxclients.", s.Clients.Max, s)
	reading(k, gauge, "clients_blocked", "Clients in a blocking call.", s.Clients.Blocked, s)
	reading(k, gauge, "operations_per_second", "instantaneous_ops_per_sec.", s.Stats.OpsPerSecond, s)
	reading(k, gauge, "keys", "Keys in all databases.", s.Keys(), s)
	reading(k, gauge, "keys_volatile", "Keys with a time to live.", s.Volatile(), s)
	reading(k, count, "evicted_keys_total", "Keys evicted since the server's start.", s.Stats.EvictedKeys, s)
	reading(k, count, "expired_keys_total", "Keys expired since the server's start.", s.Stats.ExpiredKeys, s)
	reading(k, count, "rejected_connections_total", "Connections refused by maxclients.", s.Stats.RejectedConnections, s)
	reading(k, count, "oom_errors_total", "Commands refused for want of memory (7.0 and later).", s.Stats.OOMErrors, s)
	reading(k, count, "full_resyncs_total", "Full copies that the node has given its replicas.", s.Stats.SyncFull, s)
	if s.Slowlog.Known {
		k.send(count, "node_slowlog_entries_total", "Entries that the slow log has taken.", float64(s.Slowlog.Newest+1), own...)
	}
}

// replication sends the node's place in it. The lag joins two probes, which lie up to an interval apart: it is never below 0.
func (k sink) replication(g policies.Group, s policies.Snapshot) {
	if !s.Reach.Answers() {
		return
	}
	r := s.Replication
	for _, role := range [...]policies.Role{policies.RoleMaster, policies.RoleReplica} {
		k.flag("node_role", "1 for the role that the node has.", r.Role == role, "instance", s.Instance, "node", s.Node, "role", string(role))
	}
	reading(k, gauge, "replication_offset_bytes", "master_repl_offset, or what a replica has processed.", offset(r), s)
	if r.Role != policies.RoleReplica {
		return
	}
	if r.LinkUp.Known {
		k.flag("node_replication_link_up", "1 where the replica's link to its master is up.", r.LinkUp.V, "instance", s.Instance, "node", s.Node)
	}
	reading(k, gauge, "replication_lag_bytes", "Bytes that the replica is behind its master, by two probes.", Lag(g, s), s)
}

func offset(r policies.Replication) policies.Opt[int64] {
	if r.Role == policies.RoleReplica {
		return r.ReplicaOffset
	}
	return r.Offset
}

// Lag is how many bytes a replica is behind the configured master, where the two share one history.
func Lag(g policies.Group, s policies.Snapshot) policies.Opt[int64] {
	m, ok := g.Of(g.Instance.Master().Name)
	a, b := m.Replication.Offset, s.Replication.ReplicaOffset
	if !ok || m.Node == s.Node || !m.Reach.Answers() || !a.Known || !b.Known || m.Replication.ReplID != s.Replication.ReplID || m.Replication.ReplID.None() {
		return policies.Opt[int64]{}
	}
	return policies.Known(max(0, a.V-b.V))
}

// states are those of a Machine, and that none is known.
var states = append(slices.Clone(policies.States[:]), "unknown")

var breakerStates = [...]string{"closed", "half-open", "open"}

func (k sink) machines(machines []Machine) {
	for _, m := range machines {
		if !slices.Contains(states, m.State) {
			m.State = "unknown"
		}
		for _, s := range states {
			k.flag("machine_state", "1 for the state that the healer's machine of the instance is in.", s == m.State, "instance", m.Instance, "state", string(s))
		}
		k.flag("paused", "1 where a person has paused all actions on the instance.", m.Paused, "instance", m.Instance)
		k.gauge("incidents_open", "Incidents of the instance that have not ended.", float64(m.Open), "instance", m.Instance)
		for _, a := range policies.Actions {
			if mode, ok := m.Modes[a]; ok {
				k.flag("action_live", "1 where the action may run for real.", mode == policies.Live, "instance", m.Instance, "action", string(a))
			}
			if state, ok := m.Breakers[a]; ok {
				for _, s := range breakerStates {
					k.flag("breaker_state", "1 for the state that the breaker is in.", s == state, "instance", m.Instance, "action", string(a), "state", s)
				}
			}
		}
	}
}

func (k sink) standing(f Facts) {
	if len(f.Groups) == 0 {
		return
	}
	for _, in := range f.Config.Instances {
		for _, severity := range policies.Severities {
			n := 0
			for _, a := range f.Standing {
				if a.Instance == in.Name && a.Severity == severity {
					n++
				}
			}
			k.gauge("alarms_standing", "Alarms of the instance that stand now.", float64(n), "instance", in.Name, "severity", severity.String())
		}
	}
}

func (k sink) receiver(r Receiver) {
	k.gauge("notifications_pending", "Events that have not reached the receiver yet.", float64(r.Pending), "receiver", r.Name)
	k.gauge("notifications_dead", "Notices that were given up and are kept: dcshealer notify retry sends them again.", float64(r.Dead), "receiver", r.Name)
	k.send(count, "notifications_delivered_total", "Notices that the receiver took.", float64(r.Delivered), "receiver", r.Name)
	k.send(count, "notifications_failed_total", "Tries to deliver a notice that failed.", float64(r.Failed), "receiver", r.Name)
}

// process sends what this process says of itself.
func (k sink) process(f Facts) {
	k.flag("healer_running", "1 where a healer runs on the state_dir.", f.Healer)
	if f.Journal.Known {
		k.flag("journal_writable", "1 where the healer can write its journal; else it does nothing.", f.Journal.V)
	}
	if f.Late.Known {
		k.send(count, "probes_late_total", "Probes that began late because this process was stalled.", float64(f.Late.V))
	}
	if f.Tilted.Known {
		k.flag("tilted", "1 where our own loop or clock is not to be trusted: nothing acts then.", f.Tilted.V)
	}
	b := f.Bus
	k.flag("bus_connected", "1 where this process is subscribed to the bus.", b.Connected)
	k.gauge("bus_queued_alarms", "Alarms that wait for the bus.", float64(b.Queued))
	k.gauge("bus_owed_alarms", "Alarms that were published and wait to be added to the stream.", float64(b.Owed))
	k.send(count, "bus_not_added_alarms_total", "Alarms that were published and never added to the stream: a reader that was away missed them.", float64(b.NotAdded))
	const help = "Alarms of this process by what became of them."
	k.send(count, "bus_publications_total", help, float64(b.Delivered), "result", "delivered")
	k.send(count, "bus_publications_total", help, float64(b.Dropped), "result", "dropped")
	k.send(count, "bus_publications_total", help, float64(b.Refused), "result", "refused")
	k.reading(b)
}

// reading sends what the readers of the bus in this process have lost, missed or not taken.
func (k sink) reading(b Bus) {
	for name, n := range b.Unread {
		k.send(count, "bus_unread_messages_total", "Messages from the bus that the reader's full queue has lost.", float64(n), "reader", name)
	}
	for name, n := range b.Deaf {
		k.send(count, "bus_deaf_total", "How often the reader heard nothing of its own canary and subscribed anew.", float64(n), "reader", name)
	}
	for kind, n := range b.Ignored {
		k.send(count, "bus_ignored_messages_total", "Messages that the healer has not taken, by what is wrong with their signature; one comes on Pub/Sub and by the stream.", float64(n), "kind", kind)
	}
	if b.Missing == nil {
		return
	}
	missing := int64(0)
	for _, n := range b.Missing { // no label: anyone on the bus can be a source
		missing += n
	}
	k.gauge("bus_missing_alarms", "Alarms that the archiver misses by the numbers of their sources; one that comes late is taken off.", float64(missing))
}
