package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"dcshealer/policies"
)

func TestWhyOfAFaultThatDryRunHolds(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	m, x := startServer(t), startServer(t)
	config := fmt.Sprintf(`listen: ""
instances:
  - name: dcs-prod-01
    managed_by: none
    nodes:
      - {name: dcs-master-01, address: "%s", role: master}
      - {name: dcs-slave-01, address: "%s", role: replica}
`, m.addr(), x.addr())
	if err := os.WriteFile(d.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.do("SET", "a", "1")
	r := decode[whyReport](t, d.ok(t, "why", "dcs-prod-01", "-o", "json"))
	if len(r.Now) != 1 || len(r.Last) != 0 || r.Running {
		t.Fatalf("%+v", r)
	}
	now := r.Now[0]
	if now.Action != policies.ReattachReplica || now.DeniedBy[0] != policies.GuardMode || len(now.Guards) < 15 {
		t.Errorf("now %+v", now)
	}
	for _, g := range now.Guards {
		if g.Reason == "" || g.Denied() == (g.Lift == "") {
			t.Errorf("guard %+v", g)
		}
	}
	text := d.ok(t, "why", "dcs-prod-01")
	wantWords(t, "why", text, "dcs-prod-01: it does not act because of mode", "no healer runs on this state_dir", "CRITICAL replication_status on dcs-slave-01",
		"Now: reattach-replica on dcs-slave-01 (dry-run, ", "dcshealer live enable dcs-prod-01 --action reattach-replica", "allow  pause", "there is none in the journal")
	if deny, allow := strings.Index(text, "deny "), strings.Index(text, "allow "); deny < 0 || deny > allow {
		t.Errorf("the denials do not come first:\n%s", text)
	}
	x.do("REPLICAOF", m.Addr.Host, m.Addr.Port)
	until(t, "the replica is linked", x.linked)
	wantWords(t, "why", d.ok(t, "why", "dcs-prod-01"), "dcs-prod-01: nothing critical is found: there is nothing to act on")
	d.fails(t, []string{"why", "dcs-prod-09"}, "dcs-prod-09", "there are dcs-prod-01")
	d.fails(t, []string{"why"}, "1 arg")
}

func TestWhyShowsTheLastDecisionOfEachOpenIncident(t *testing.T) {
	t.Parallel()
	rec := func(id, incident string) policies.Record {
		return policies.Record{ID: id, Incident: incident, Instance: "n", Action: policies.ReattachReplica, Guards: []policies.Ruling{{Guard: policies.GuardPause, Verdict: "deny", Reason: "paused"}}}
	}
	newest := []policies.Record{rec("5", "c"), rec("4", "b"), rec("3", "b"), rec("2", "a"), rec("1", "a")}
	for want, open := range map[string][]policies.Incident{"5": nil, "4 2": {{ID: "b"}, {ID: "a"}}, "2": {{ID: "a"}, {ID: "gone"}}} {
		var ids []string
		for _, p := range lastDecisions(newest, open) {
			ids = append(ids, p.Record)
			if p.Guards[0].Lift == "" || p.Incident == nil || p.Incident.Open != (open != nil) {
				t.Errorf("%+v", p)
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("open %v: records %s, want %s", open, got, want)
		}
	}
	if got := lastDecisions(nil, nil); got == nil || len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestStatusWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	for _, output := range []string{"text", "json"} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &textBuffer{}
		a := &app{stdout: out, stderr: out, configFile: d.config, output: output}
		done := make(chan error, 1)
		go func() { done <- a.watchStatus(ctx) }()
		until(t, "the first showing", func() bool { return strings.Contains(out.String(), "dcs-prod-02") })
		d.journal(t).SaveStatus(t.Context(), policies.MachineStatus{Instance: "dcs-prod-02", State: policies.StateEscalated, Since: decided})
		until(t, "what changed", func() bool { return strings.Contains(out.String(), "escalated") })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if text := out.String(); strings.ContainsRune(text, '\x1b') || output == "json" && strings.Count(text, "\n") != 2 {
			t.Errorf("%s: %q", output, text)
		}
		if err := os.RemoveAll(d.state); err != nil {
			t.Fatal(err)
		}
	}
}
