package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// incident3 journals the incident around what healed writes: alarmed, seen, opened, taken, changed, closed.
func (d stateDir) incident3(t *testing.T) {
	t.Helper()
	j, ctx := d.journal(t), t.Context()
	in := policies.Incident{ID: "incident-3", Instance: "dcs-prod-01", Node: "dcs-slave-01", Metric: policies.MetricReplication, Cause: policies.CauseNetwork,
		Msg: "dcs-slave-01 is off its master\x1b[31m", Trigger: policies.TriggerAlarm, Alarm: "alarm-7", Alarmed: decided.Add(-2 * time.Second), Seen: decided.Add(-1500 * time.Millisecond), Opened: decided.Add(-time.Second)}
	_, err := j.Acknowledge(ctx, in.ID, policies.Ack{By: "ann"})
	if !errors.Is(err, journal.ErrUnknownIncident) {
		t.Fatalf("acknowledged %v before it was opened", err)
	}
	err = errors.Join(j.OpenIncident(ctx, in),
		j.ChangeIncident(ctx, in.ID, policies.CausePromoted, "dcs-slave-01 is a master", "two probes agree on promoted", decided.Add(-500*time.Millisecond)))
	if err == nil {
		_, err = j.Acknowledge(ctx, "incident", policies.Ack{By: "ann", Note: "looking", At: decided.Add(4 * time.Second)})
	}
	err = errors.Join(err, j.SetPause(ctx, journal.Pause{Instance: "dcs-prod-01", Reason: "let me look", By: "ann", At: decided.Add(5 * time.Second), Until: decided.Add(time.Hour)}),
		j.CloseIncident(ctx, in.ID, journal.Closing{Resolution: policies.ResolvedByUs, Text: "still well 10s after the repair"}, decided.Add(40*time.Second)))
	if err != nil {
		t.Fatal(err)
	}
}

// alarms archives alarms about the replica of dcs-prod-01, each at its second from decided.
func (d stateDir) alarms(t *testing.T, at map[int]string) {
	t.Helper()
	store, err := archive.Open(t.Context(), filepath.Join(d.state, archiveFile))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for sec, msg := range at {
		a := policies.Alarm{Severity: policies.Critical, Instance: "dcs-prod-01", Metric: policies.MetricReplication, Value: policies.Text("down"), Slave: "dcs-slave-01", Msg: msg}
		if strings.HasPrefix(msg, "other") {
			a.Slave = "dcs-slave-02"
		}
		payload, err := policies.EncodeAlarm(a)
		if err != nil {
			t.Fatal(err)
		}
		e := archive.Entry{Alarm: a, Received: decided.Add(time.Duration(sec) * time.Second), Channel: "redis:monitor:critical", Payload: payload}
		if _, err := store.Append(t.Context(), []archive.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIncidentsBeforeAny(t *testing.T) {
	d := newStateDir(t)
	if got := d.ok(t, "incidents", "list", "-o", "json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("incidents list: %s", got)
	}
	wantWords(t, "incidents list", d.ok(t, "incidents", "list"), "No journal", d.state)
	d.fails(t, []string{"incidents", "show", "01K"}, "no journal", d.state)
	if _, err := os.Stat(d.state); err == nil {
		t.Error("a reading command created the state_dir")
	}
	d.journal(t)
	wantWords(t, "incidents list", d.ok(t, "incidents", "list", "--open"), "No such incidents")
	d.fails(t, []string{"incidents", "show", "01K"}, "no such incident", "dcshealer incidents list")
	d.fails(t, []string{"incidents", "list", "--since", "soon"}, "--since", "soon")
	d.fails(t, []string{"incidents", "list", "--limit", "-2"}, "-2")
}

func TestIncidentsList(t *testing.T) {
	d := newStateDir(t)
	d.incident3(t)
	open := policies.Incident{ID: "incident-4", Instance: "dcs-prod-02", Node: "dcs-master-02", Metric: policies.MetricUsedMemory, Cause: policies.CauseExpiredKeys, Opened: decided.Add(time.Hour)}
	if err := d.journal(t).OpenIncident(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"incident-4 incident-3": nil,
		"incident-4":            {"--open"},
		"incident-3":            {"--instance", "dcs-prod-01"},
		"":                      {"--instance", "dcs-prod-01", "--open"},
		"incident-4 ":           {"--since", decided.Add(2 * time.Minute).Format(time.RFC3339)},
		" incident-4":           {"--limit", "1"},
	} {
		var ids []string
		for _, i := range decode[[]policies.Incident](t, d.ok(t, append([]string{"incidents", "list", "-o", "json"}, args...)...)) {
			ids = append(ids, i.ID)
		}
		if strings.Join(ids, " ") != strings.TrimSpace(want) {
			t.Errorf("%v: got %v, want %s", args, ids, want)
		}
	}
	out := d.ok(t, "incidents", "list")
	wantWords(t, "incidents list", out, "incident-3", "2026-03-01 11:59:58", "42s", "promoted", "repaired", "ann", "incident-4", "open")
}

func TestAnIncidentIsAStory(t *testing.T) {
	d := newStateDir(t)
	d.healed(t)
	d.incident3(t)
	d.alarms(t, map[int]string{-100: "Resolved: of the one before", -2: "off", 0: "off", 1: "off still", 2: "off still", 3: "other replica", 38: "Resolved: back", 100: "off again"})
	out := d.ok(t, "incidents", "show", "incident-3")
	if strings.ContainsRune(out, '\x1b') {
		t.Errorf("a control character:\n%q", out)
	}
	rest := out
	for _, want := range []string{
		"incident incident-3 on dcs-prod-01: ended, repaired", "replication_status on dcs-slave-01: promoted", "2026-03-01 11:59:58 UTC; it lasted 42s", "after 1s", "after 5s by reattach-replica on dcs-slave-01, by alarm", "ann at 2026-03-01 12:00:04 UTC (looking)",
		"11:59:58.000     +0.000  alarm     critical alarm: off", "alarm     the alarm reached the healer (alarm-7)", "11:59:58.500     +0.500  incident  the healer's own probe saw it", "two probes agree: dcs-slave-01 is off its master", "diagnosed anew: two probes agree on promoted",
		"critical alarm repeated 3 times up to 2026-03-01 12:00:02 UTC", "reattach-replica on dcs-slave-01 begins, by alarm", "expected: a full resync, about 2048 bytes", "12:00:01.000     +3.000  command   sent to dcs-slave-01: REPLICAOF 127.0.0.1 7001 -> OK, 1.5ms", "outcome   succeeded", "taken by ann: looking",
		"control   paused dcs-prod-01 until 2026-03-01 13:00:00 UTC (by ann: let me look)", "still attached", "critical alarm ended: back", "12:00:40.000    +42.000  incident  ended, repaired: still well 10s after the repair",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q, in this order, in:\n%s", want, out)
		}
		rest = after
	}
	for _, no := range []string{"of the one before", "other replica", "off again"} {
		if strings.Contains(out, no) {
			t.Errorf("%q is of another incident:\n%s", no, out)
		}
	}
	r := decode[incidentReport](t, d.ok(t, "incidents", "show", "incident-3", "-o", "json"))
	if r.Incident.Cause != policies.CausePromoted || len(r.Records) != 1 || len(r.Story) < 12 || r.Story[0].Kind != "alarm" {
		t.Errorf("JSON %+v", r)
	}
}

func TestARefusalInAStoryShowsEachGuardThatDenied(t *testing.T) {
	at := decided
	events := recordEvents(policies.Record{ID: "r", Action: policies.ReattachReplica, Node: "x", Outcome: policies.OutcomeDenied, At: at, Finished: at,
		Guards: []policies.Ruling{{Guard: policies.GuardMode, Verdict: "allow", Reason: "live"}, {Guard: policies.GuardLineage, Verdict: "deny", Reason: "no history in common"}}})
	if len(events) != 1 || events[0].Text != "refused: reattach-replica on x" || len(events[0].Details) != 1 || events[0].Details[0] != "lineage: no history in common" {
		t.Errorf("%+v", events)
	}
	events = recordEvents(policies.Record{ID: "r", Outcome: policies.OutcomeDenied, Error: "no action cures client-buffers", At: at})
	if len(events) != 1 || events[0].Text != "refused: no action cures client-buffers" {
		t.Errorf("%+v", events)
	}
	events = recordEvents(policies.Record{ID: "r", Action: policies.ReclaimExpired, Node: "m", Outcome: policies.OutcomePlanned, At: at, Planned: [][]string{{"SCAN", "cursor"}}})
	if len(events) != 1 || events[0].Text != "dry run: reclaim-expired on m would be sent; nothing was" || events[0].Details[0] != "would send: SCAN cursor" {
		t.Errorf("%+v", events)
	}
}
