package main

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// forge turns a success in the journal into a failure, behind its back.
func forge(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range []string{"DROP TRIGGER entries_no_update", "UPDATE entries SET body = replace(body, 'succeeded', 'failed') WHERE kind = 'result'"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

func (d stateDir) liveRows(t *testing.T) []liveRow {
	t.Helper()
	return decode[[]liveRow](t, d.ok(t, "live", "list", "-o", "json"))
}

func TestLiveEnableListDisable(t *testing.T) {
	d := newStateDir(t)
	if rows := d.liveRows(t); len(rows) != 1 || rows[0].Source != "config" || rows[0].Instance != "dcs-prod-01" || rows[0].Mode != policies.Live || rows[0].Until != nil {
		t.Fatalf("before: %+v", rows)
	}
	before := time.Now()
	out := d.ok(t, "live", "enable", "dcs-prod-02", "--action", "reclaim-expired", "--for", "2h", "--reason", "first\x1b[2J trial", "--by", "ann")
	wantWords(t, "live enable", out, "reclaim-expired on dcs-prod-02 may run for real until", "by ann", "dcshealer live disable dcs-prod-02 --action reclaim-expired")
	rows := d.liveRows(t)
	if len(rows) != 2 || rows[1].Source != "runtime" || !rows[1].Enabled || rows[1].Mode != policies.Live || rows[1].By != "ann" ||
		rows[1].Until == nil || rows[1].Until.Sub(before).Round(time.Minute) != 2*time.Hour {
		t.Errorf("after enable: %+v", rows)
	}
	out = d.ok(t, "live", "disable", "dcs-prod-01", "--action", "reattach-replica", "--reason", "freeze", "-o", "json")
	if row := decode[liveRow](t, out); row.Enabled || row.Mode != policies.DryRun || row.Until != nil || row.By == "" {
		t.Errorf("live disable: %+v", row)
	}
	rows = d.liveRows(t)
	if len(rows) != 3 || rows[0].Source != "config" || rows[0].Mode != policies.DryRun || rows[1].Enabled {
		t.Errorf("a revocation beats the config: %+v", rows)
	}
	text := d.ok(t, "live", "list")
	wantWords(t, "live list", text, "dcs-prod-02", "runtime", "first trial", "freeze")
	if strings.Contains(text, "\x1b") {
		t.Errorf("a control character reached the terminal: %q", text)
	}
	wantWords(t, "actions verify", d.ok(t, "actions", "verify"), "2 entries, 0 records")
}

func TestLiveRefusals(t *testing.T) {
	d := newStateDir(t)
	for _, tc := range []struct{ args, words string }{
		{"enable nosuch --action reclaim-expired --reason r", "nosuch|dcs-prod-01, dcs-prod-02"},
		{"enable dcs-prod-01 --action reboot --reason r", "reboot|evict-near-expiry or kill-idle-clients"},
		{"enable dcs-prod-01 --action purge-memory --for 2h --reason r", "never planned on dcs-prod-01|ladder: [purge-memory]"},
		{"enable dcs-prod-01 --reason r", "--action"},
		{"enable dcs-prod-01 --action reclaim-expired", "--reason is required"},
		{"enable dcs-prod-01 --action reclaim-expired --reason r --for 0s", "--for"},
		{"enable dcs-prod-01 --action reclaim-expired --reason r --for -2h", "--for"},
		{"enable dcs-prod-01 --action reclaim-expired --reason r --for soon", "soon"},
		{"disable dcs-prod-01 --action reclaim-expired", "--reason is required"},
		{"enable --action reclaim-expired --reason r", "arg"},
	} {
		d.fails(t, append([]string{"live"}, strings.Fields(tc.args)...), strings.Split(tc.words, "|")...)
	}
	if rows := d.liveRows(t); len(rows) != 1 {
		t.Errorf("a refused command left %+v", rows)
	}
}

func TestLiveRowsShowGrantsOfForgottenInstances(t *testing.T) {
	g := policies.LiveGrant{Instance: "gone", Action: policies.ReclaimExpired, Enabled: true, Reason: "r", By: "ann", At: decided}
	rows := liveRows(policies.Config{File: "fleet.yaml"}, []policies.LiveGrant{g}, decided)
	if len(rows) != 1 || rows[0].Mode != policies.DryRun || !strings.Contains(rows[0].Reason, "not in fleet.yaml") {
		t.Errorf("%+v", rows)
	}
}

func TestLiveRowsShowGrantsOfStepsThatTheLadderNoLongerNames(t *testing.T) {
	cfg := policies.Config{File: "fleet.yaml", Instances: []policies.Instance{{Name: "one", Ladder: []policies.Action{policies.PurgeMemory}}}}
	g := policies.LiveGrant{Instance: "one", Action: policies.PurgeMemory, Enabled: true, Reason: "r", By: "ann", At: decided}
	if rows := liveRows(cfg, []policies.LiveGrant{g}, decided); len(rows) != 1 || rows[0].Mode != policies.Live {
		t.Errorf("with the step: %+v", rows)
	}
	cfg.Instances[0].Ladder = nil
	rows := liveRows(cfg, []policies.LiveGrant{g}, decided)
	if len(rows) != 1 || rows[0].Mode != policies.DryRun || !strings.Contains(rows[0].Reason, "ladder does not name it") {
		t.Errorf("without: %+v", rows)
	}
}
