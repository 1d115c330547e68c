package metrics

import (
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// sample has a value in every field that a metric shows.
func sample() Facts {
	in := policies.Instance{Name: "one", Nodes: []policies.Node{{Name: "m", Role: policies.RoleMaster}, {Name: "r", Role: policies.RoleReplica}, {Name: "dead", Role: policies.RoleReplica}}}
	n := policies.Known[int64]
	m := policies.Snapshot{Instance: "one", Node: "m", At: time.Unix(1000, 0), Took: 3 * time.Millisecond, RTT: time.Millisecond, Reach: policies.ReachUp,
		UptimeSeconds: n(5), Slowlog: policies.Slowlog{Known: true, Newest: 6}, KeyspaceKnown: true, DBs: []policies.DB{{Keys: 10, Expires: 4}}}
	m.Memory = policies.Memory{Used: n(90), NotCounted: n(10), Max: n(100), RSS: n(120), FragmentationX: policies.Known(1.5)}
	m.Clients = policies.Clients{Connected: n(7), Blocked: n(1), Max: n(50)}
	m.Stats = policies.Stats{EvictedKeys: n(2), ExpiredKeys: n(3), RejectedConnections: n(4), OOMErrors: n(5), SyncFull: n(6), OpsPerSecond: n(11)}
	m.Replication = policies.Replication{Role: policies.RoleMaster, ReplID: "abc", Offset: n(1000)}
	r := policies.Snapshot{Instance: "one", Node: "r", At: time.Unix(1000, 0), Reach: policies.ReachUp,
		Replication: policies.Replication{Role: policies.RoleReplica, ReplID: "abc", Offset: n(900), ReplicaOffset: n(900), LinkUp: policies.Known(true)}}
	dead := policies.Snapshot{Instance: "one", Node: "dead", At: time.Unix(1000, 0), Reach: policies.ReachRefused}
	return Facts{
		Config: policies.Config{Instances: []policies.Instance{in}}, Groups: []policies.Group{{Instance: in, Snapshots: []policies.Snapshot{m, r, dead}}},
		Standing: []policies.Alarm{{Instance: "one", Severity: policies.Critical}, {Instance: "forged", Severity: policies.Critical}},
		Machines: []Machine{{Instance: "one", State: policies.StateHeld, Paused: true, Open: 1, Modes: map[policies.Action]policies.Mode{policies.ReattachReplica: policies.Live},
			Breakers: map[policies.Action]string{policies.ReattachReplica: "open"}}},
		Bus: Bus{Connected: true, Queued: 1, Delivered: 2, Dropped: 3, Refused: 4, Owed: 6, NotAdded: 7, Unread: map[string]int64{"dba": 5, "archiver": 0},
			Deaf: map[string]int64{"healer": 8}, Missing: map[string]int64{"host-a": 9, "forged": 1}, Ignored: map[string]int64{"unsigned": 11}},
		Receivers: []Receiver{{Name: "on-call", Pending: 12, Dead: 13, Delivered: 14, Failed: 15}},
		Late:      n(8), Tilted: policies.Known(true), Healer: true, Journal: policies.Known(true),
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetricsShowWhatIsKnown(t *testing.T) {
	m := New("1.2.3", sample)
	m.Alarm(policies.Alarm{Severity: policies.Critical})
	m.Alarm(policies.Alarm{Severity: policies.Critical, Msg: "Resolved: it"})
	m.Decision(policies.Record{Action: policies.ReattachReplica, Outcome: policies.OutcomeDenied, DeniedBy: []policies.Guard{policies.GuardMode, policies.GuardPause}})
	m.Decision(policies.Record{Outcome: policies.OutcomeUnsupported})
	text := scrape(t, m)
	for _, want := range []string{
		`dcshealer_node_up{instance="one",node="m"} 1`, `dcshealer_node_up{instance="one",node="dead"} 0`, `dcshealer_node_memory_counted_bytes{instance="one",node="m"} 80`,
		`dcshealer_node_memory_max_bytes{instance="one",node="m"} 100`, `dcshealer_node_clients{instance="one",node="m"} 7`, `dcshealer_node_evicted_keys_total{instance="one",node="m"} 2`,
		`dcshealer_node_replication_lag_bytes{instance="one",node="r"} 100`, `dcshealer_node_replication_link_up{instance="one",node="r"} 1`,
		`dcshealer_node_role{instance="one",node="m",role="master"} 1`, `dcshealer_node_slowlog_entries_total{instance="one",node="m"} 7`,
		`dcshealer_node_probe_duration_seconds{instance="one",node="m"} 0.003`,
		`dcshealer_alarms_total{severity="critical",status="firing"} 1`, `dcshealer_alarms_total{severity="critical",status="resolved"} 1`, `dcshealer_alarms_total{severity="notice",status="firing"} 0`,
		`dcshealer_alarms_standing{instance="one",severity="critical"} 1`,
		`dcshealer_machine_state{instance="one",state="held"} 1`, `dcshealer_machine_state{instance="one",state="idle"} 0`, `dcshealer_paused{instance="one"} 1`,
		`dcshealer_breaker_state{action="reattach-replica",instance="one",state="open"} 1`, `dcshealer_action_live{action="reattach-replica",instance="one"} 1`,
		`dcshealer_actions_total{action="reattach-replica",outcome="denied"} 1`, `dcshealer_actions_total{action="none",outcome="unsupported"} 1`,
		`dcshealer_guard_refusals_total{guard="pause"} 1`, `dcshealer_guard_refusals_total{guard="tilt"} 0`,
		`dcshealer_bus_connected 1`, `dcshealer_bus_publications_total{result="dropped"} 3`, `dcshealer_probes_late_total 8`, `dcshealer_tilted 1`, `dcshealer_incidents_open{instance="one"} 1`,
		`dcshealer_bus_owed_alarms 6`, `dcshealer_bus_not_added_alarms_total 7`, `dcshealer_bus_unread_messages_total{reader="dba"} 5`, `dcshealer_bus_unread_messages_total{reader="archiver"} 0`,
		`dcshealer_bus_deaf_total{reader="healer"} 8`, `dcshealer_bus_missing_alarms 10`, `dcshealer_bus_ignored_messages_total{kind="unsigned"} 11`,
		`dcshealer_notifications_pending{receiver="on-call"} 12`, `dcshealer_notifications_dead{receiver="on-call"} 13`,
		`dcshealer_notifications_delivered_total{receiver="on-call"} 14`, `dcshealer_notifications_failed_total{receiver="on-call"} 15`,
		`dcshealer_healer_running 1`, `dcshealer_journal_writable 1`, `version="1.2.3"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, not := range []string{"forged", `memory_max_bytes{instance="one",node="r"}`, `clients{instance="one",node="dead"}`, `role{instance="one",node="dead"`} {
		if strings.Contains(text, not) {
			t.Errorf("%s is shown; what is not known is not 0, and only what the config names is a label", not)
		}
	}
}

func TestLagNeedsOneHistory(t *testing.T) {
	f := sample()
	g := f.Groups[0]
	r := g.Snapshots[1]
	for name, c := range map[string]struct {
		change func(*policies.Snapshot)
		want   policies.Opt[int64]
	}{
		"in step":                 {func(*policies.Snapshot) {}, policies.Known[int64](100)},
		"probed after the master": {func(s *policies.Snapshot) { s.Replication.ReplicaOffset = policies.Known[int64](1001) }, policies.Known[int64](0)},
		"another history":         {func(s *policies.Snapshot) { s.Replication.ReplID = "def" }, policies.Opt[int64]{}},
		"unread":                  {func(s *policies.Snapshot) { s.Replication.ReplicaOffset = policies.Opt[int64]{} }, policies.Opt[int64]{}},
	} {
		s := r
		if c.change(&s); Lag(g, s) != c.want {
			t.Errorf("%s: %v, want %v", name, Lag(g, s), c.want)
		}
	}
}

func TestPromtoolFindsNothingWrong(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool on PATH (Debian: prometheus)")
	}
	text := ""
	for line := range strings.Lines(scrape(t, New("1.2.3", sample))) {
		if strings.Contains(line, "dcshealer_") {
			text += line
		}
	}
	cmd := exec.Command(tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
