package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func TestStatusBeforeAnyHealer(t *testing.T) {
	d := newStateDir(t)
	out := d.ok(t, "status", "-o", "json")
	s := decode[fleetStatus](t, out)
	if s.Running || len(s.Instances) != 2 || s.Instances[0].State != "unknown" || s.Instances[0].Since != nil || s.Instances[0].LastAction != nil ||
		s.Instances[0].Modes[policies.ReattachReplica] != policies.Live || s.Instances[1].Modes[policies.ReattachReplica] != policies.DryRun {
		t.Errorf("status %+v", s)
	}
	var raw struct{ Instances []map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(out), &raw); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"since": "null", "incidents": "[]", "breakers": "{}", "paused": "false", "last_action": "null"} {
		if got := string(raw.Instances[1][key]); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	for what, text := range map[string]string{"text": d.ok(t, "status"), "JSON": out} {
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "127.0.0.1:6399") {
			t.Errorf("%s shows the bus as it must not:\n%s", what, text)
		}
	}
}

func TestStatusJoinsWhatIsKnown(t *testing.T) {
	d := newStateDir(t)
	repaired, _ := d.healed(t)
	j, ctx := d.journal(t), t.Context()
	for _, err := range []error{
		j.SaveStatus(ctx, policies.MachineStatus{Instance: "dcs-prod-01", State: policies.StateHeld, Since: decided, Incidents: []string{"inc-1"},
			Breakers: map[policies.Action]string{policies.ReattachReplica: "half-open"}, Paused: false, Blind: "no maxmemory"}),
		j.SaveStatus(ctx, policies.MachineStatus{Instance: "forgotten", State: policies.StateIdle, Since: decided}),
		j.SetPause(ctx, journal.Pause{Instance: "dcs-prod-01", Reason: "r", By: "ann"}),
		j.SetLive(ctx, policies.LiveGrant{Instance: "dcs-prod-02", Action: policies.ReclaimExpired, Enabled: true, Until: time.Now().Add(time.Hour), Reason: "r", By: "ann"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := j.LockHealer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := decode[fleetStatus](t, d.ok(t, "status", "-o", "json"))
	if !s.Running || len(s.Instances) != 2 {
		t.Fatalf("status %+v", s)
	}
	in := s.Instances[0]
	if in.State != policies.StateHeld || in.Since == nil || !in.Since.Equal(decided) || len(in.Incidents) != 1 || !in.Paused ||
		in.Breakers[policies.ReattachReplica] != "half-open" || in.LastAction == nil || in.LastAction.ID != repaired || in.LastAction.Outcome != policies.OutcomeSucceeded {
		t.Errorf("dcs-prod-01 %+v", in)
	}
	if s.Instances[1].Modes[policies.ReclaimExpired] != policies.Live || s.Instances[1].Paused {
		t.Errorf("dcs-prod-02 %+v", s.Instances[1])
	}
	wantWords(t, "status", d.ok(t, "status"), "healer: running", "held", "dcs-prod-01  held, paused", "reclaim-expired", "reattach-replica half-open", "inc-1", "succeeded", "dcs-prod-01 is blind: no maxmemory")
	unlock()
	wantWords(t, "status", d.ok(t, "status"), "not running; the states are the last known", "held")
}
