package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// stateDir is a config file of two instances in a folder of its own, whose state_dir does not exist yet.
type stateDir struct{ config, state string }

func newStateDir(t *testing.T) stateDir {
	t.Helper()
	dir := t.TempDir()
	d := stateDir{filepath.Join(dir, "fleet.yaml"), filepath.Join(dir, "state")}
	text := `bus: {url: "redis://bob:hunter2@127.0.0.1:6399/0"}
listen: ""
instances:
  - name: dcs-prod-01
    live: [reattach-replica]
    nodes:
      - {name: dcs-master-01, address: 127.0.0.1:7001, role: master}
      - {name: dcs-slave-01, address: 127.0.0.1:7002, role: replica}
  - name: dcs-prod-02
    nodes:
      - {name: dcs-master-02, address: 127.0.0.1:7003, role: master}
`
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// journal opens the state_dir's journal as a healer would.
func (d stateDir) journal(t *testing.T) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), d.state, policies.Operator{Host: "ops-1", PID: 42, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// command runs one command line on the state_dir and returns what it printed and its exit code.
func (d stateDir) command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	a := &app{stdout: &out, stderr: &errOut}
	root := newRoot(a)
	a.configFile = d.config // an argument still wins
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	var exit exitError
	switch {
	case err == nil:
		return out.String(), errOut.String(), exitDone
	case errors.As(err, &exit):
		return out.String(), errOut.String() + exit.msg, exit.code
	}
	return out.String(), errOut.String() + err.Error(), exitFailed
}

// ok runs a command line that has to succeed.
func (d stateDir) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, code := d.command(t, args...)
	if code != exitDone || errOut != "" {
		t.Fatalf("%v: exit %d, stderr %s", args, code, errOut)
	}
	return out
}

// fails runs a command line that has to exit with 1 and say the words.
func (d stateDir) fails(t *testing.T, args []string, words ...string) {
	t.Helper()
	_, errOut, code := d.command(t, args...)
	if code != exitFailed {
		t.Errorf("%v: exit %d, want %d", args, code, exitFailed)
	}
	wantWords(t, strings.Join(args, " "), errOut, words...)
}

func wantWords(t *testing.T, what, got string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("%s: no %q in:\n%s", what, w, got)
		}
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

var decided = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// healed journals one live repair, and one dry decision after it; it returns their ids.
func (d stateDir) healed(t *testing.T) (repaired, planned string) {
	t.Helper()
	j, ctx := d.journal(t), t.Context()
	unlock, err := j.Lock(ctx, "dcs-prod-01")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	repaired, err = j.Begin(ctx, policies.Record{Instance: "dcs-prod-01", Node: "dcs-slave-01", Action: policies.ReattachReplica, Mode: policies.Live,
		Trigger: policies.TriggerAlarm, Alarm: "alarm-7", Incident: "incident-3", At: decided, Metric: policies.MetricReplication, Cause: policies.CausePromoted,
		Guards:  []policies.Ruling{{Guard: policies.GuardLineage, Verdict: "allow", Reason: "replid2 is the master's\x1b[31m"}},
		Planned: [][]string{{"REPLICAOF", "127.0.0.1", "7001"}}, Expect: policies.Expect{Resync: policies.ResyncFull, Bytes: policies.Known(int64(2048))},
		Before: map[string]any{"role": "master", "offset": 12345678.0}})
	if err == nil {
		err = errors.Join(
			j.Command(ctx, repaired, policies.CommandRecord{Args: []string{"REPLICAOF", "127.0.0.1", "7001"}, Reply: "OK", At: decided.Add(time.Second), Took: 1500 * time.Microsecond, Node: "dcs-slave-01"}),
			j.Finish(ctx, repaired, journal.Result{Outcome: policies.OutcomeSucceeded, Finished: decided.Add(3 * time.Second),
				After: map[string]any{"role": "replica"}, Effect: map[string]any{"solved": true}}),
			j.Note(ctx, repaired, policies.Note{At: decided.Add(33 * time.Second), Text: "still\nattached", Data: map[string]any{"lag": 0.0}}))
	}
	if err != nil {
		t.Fatal(err)
	}
	planned, err = j.Begin(ctx, policies.Record{Instance: "dcs-prod-02", Node: "dcs-master-02", Action: policies.ReclaimExpired, Mode: policies.DryRun, At: decided.Add(time.Hour),
		Outcome: policies.OutcomePlanned, Guards: []policies.Ruling{{Guard: policies.GuardMode, Verdict: "deny", Reason: "dry run"}}, DeniedBy: []policies.Guard{policies.GuardMode}})
	if err != nil {
		t.Fatal(err)
	}
	return repaired, planned
}

func TestCommandsBeforeAnyJournalShowNothingAndCreateNothing(t *testing.T) {
	d := newStateDir(t)
	if got := d.ok(t, "actions", "list", "-o", "json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("actions list: %s", got)
	}
	wantWords(t, "actions list", d.ok(t, "actions", "list"), "No journal", d.state)
	wantWords(t, "actions verify", d.ok(t, "actions", "verify"), "whole", "0 entries")
	if v := decode[journal.VerifyResult](t, d.ok(t, "actions", "verify", "-o", "json")); !v.OK || v.Entries != 0 {
		t.Errorf("actions verify: %+v", v)
	}
	d.fails(t, []string{"actions", "show", "01K"}, "no journal", d.state)
	if _, err := os.Stat(d.state); err == nil {
		t.Error("a reading command created the state_dir")
	}
}

func TestActionsList(t *testing.T) {
	d := newStateDir(t)
	repaired, planned := d.healed(t)
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{nil, []string{planned, repaired}},
		{[]string{"--instance", "dcs-prod-01"}, []string{repaired}},
		{[]string{"--action", "reclaim-expired"}, []string{planned}},
		{[]string{"--outcome", "succeeded"}, []string{repaired}},
		{[]string{"--outcome", "failed"}, nil},
		{[]string{"--since", "2026-03-01T12:30:00Z"}, []string{planned}},
		{[]string{"--limit", "1"}, []string{planned}},
		{[]string{"--limit", "0"}, []string{planned, repaired}},
	} {
		rs := decode[[]policies.Record](t, d.ok(t, append([]string{"actions", "list", "-o", "json"}, tc.args...)...))
		var ids []string
		for _, r := range rs {
			ids = append(ids, r.ID)
		}
		if strings.Join(ids, " ") != strings.Join(tc.want, " ") {
			t.Errorf("%v: got %v, want %v", tc.args, ids, tc.want)
		}
	}
	out := d.ok(t, "actions", "list")
	wantWords(t, "actions list", out, repaired, "2026-03-01 12:00:00", "dcs-slave-01", "succeeded", "denied by mode")
	if strings.Index(out, planned) > strings.Index(out, repaired) {
		t.Errorf("not newest first:\n%s", out)
	}
	d.fails(t, []string{"actions", "list", "--action", "reboot"}, "reboot", "evict-near-expiry or kill-idle-clients")
	d.fails(t, []string{"actions", "list", "--outcome", "done"}, "done", "succeeded")
	d.fails(t, []string{"actions", "list", "--limit", "-1"}, "-1")
	d.fails(t, []string{"actions", "list", "--since", "soon"}, "--since", "soon")
}

func TestActionsShowTellsTheWholeStory(t *testing.T) {
	d := newStateDir(t)
	repaired, planned := d.healed(t)
	out := d.ok(t, "actions", "show", strings.ToLower(repaired))
	wantWords(t, "actions show", out,
		"reattach-replica on dcs-prod-01, node dcs-slave-01: succeeded", repaired, "live, by alarm", "after 3s", "promoted", "alarm-7", "incident-3", "ops-1, process 42",
		"Guards: 1 asked, 0 denied", "allow  lineage", "replid2 is the master's", "a full resync, about 2048 bytes",
		"12:00:01.000  dcs-slave-01  REPLICAOF 127.0.0.1 7001 -> OK, 1.5ms", "role: master -> replica", "offset: 12345678 -> -", "in short  it acted: reattach-replica on dcs-slave-01 succeeded", "the alarm is solved", "still attached  lag=0",
		"intent", "command", "result", "note")
	if strings.Contains(out, "\x1b") {
		t.Errorf("a control character reached the terminal: %q", out)
	}
	wantWords(t, "a dry decision", d.ok(t, "actions", "show", planned), "deny   mode", "Nothing was sent.", "it did not act, for this is a dry run; to let it act: dcshealer live enable dcs-prod-02 --action reclaim-expired")
	if v := decode[recordView](t, d.ok(t, "actions", "show", planned, "-o", "json")); len(v.Guards) != 1 || !strings.Contains(v.Guards[0].Lift, "live enable") || v.Conclusion == "" || v.Brought == nil {
		t.Errorf("JSON of the dry decision %+v", v)
	}
	if r := decode[policies.Record](t, d.ok(t, "actions", "show", repaired, "-o", "json")); r.ID != repaired || r.Outcome != policies.OutcomeSucceeded || len(r.Commands) != 1 {
		t.Errorf("JSON %+v", r)
	}
	d.fails(t, []string{"actions", "show", "nosuch"}, "no such record", "actions list")
}

func TestActionsVerifyNamesTheFirstBadRecord(t *testing.T) {
	d := newStateDir(t)
	repaired, _ := d.healed(t)
	wantWords(t, "actions verify", d.ok(t, "actions", "verify"), "whole: 5 entries, 2 records, head ")
	forge(t, filepath.Join(d.state, "healer.db"))
	d.fails(t, []string{"actions", "verify"}, "entry 3", repaired, "changed after it was written", "2 entries before")
	out, _, code := d.command(t, "actions", "verify", "-o", "json")
	if v := decode[journal.VerifyResult](t, out); code != exitFailed || v.OK || v.FirstBad == nil || v.FirstBad.Record != repaired {
		t.Errorf("exit %d, %+v", code, v)
	}
}
