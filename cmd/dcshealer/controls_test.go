package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (d stateDir) controls(t *testing.T) []controlRow {
	t.Helper()
	return decode[[]controlRow](t, d.ok(t, "controls", "list", "-o", "json"))
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	if rows := d.controls(t); len(rows) != 0 {
		t.Errorf("before: %+v", rows)
	}
	out := d.ok(t, "pause", "dcs-prod-01", "--for", "1h", "--reason", "new\x1b[2J hardware", "--by", "ann")
	wantWords(t, "pause", out, "No action runs on dcs-prod-01 until ", "by ann: new hardware", "dcshealer resume dcs-prod-01 --reason WHY")
	all := decode[pauseRow](t, d.ok(t, "pause", "--all", "--reason", "stop", "-o", "json"))
	if all.Instance != "" || all.Until != nil || all.By == "" || len(all.UnderWay) != 0 {
		t.Errorf("pause --all: %+v", all)
	}
	rows := d.controls(t)
	if len(rows) != 2 || rows[0].Instance != "" || rows[1].Instance != "dcs-prod-01" || rows[1].Kind != "pause" || rows[1].By != "ann" || rows[1].Until == nil || rows[1].Until.Sub(*rows[1].Since) != time.Hour {
		t.Errorf("controls: %+v", rows)
	}
	wantWords(t, "resume", d.ok(t, "resume", "dcs-prod-01", "--reason", "done"), "The pause of dcs-prod-01 is lifted", "Still paused: all instances", "dcshealer resume --all")
	again := decode[resumed](t, d.ok(t, "resume", "dcs-prod-01", "--reason", "done", "-o", "json"))
	if again.Lifted || len(again.Paused) != 1 {
		t.Errorf("a second resume: %+v", again)
	}
	wantWords(t, "resume --all", d.ok(t, "resume", "--all", "--reason", "all clear"), "The pause of all instances is lifted")
	if rows := d.controls(t); len(rows) != 0 {
		t.Errorf("after: %+v", rows)
	}
	history := decode[[]changeRow](t, d.ok(t, "controls", "list", "--since", "1h", "-o", "json"))
	var kinds []string
	for _, c := range history {
		kinds = append(kinds, c.Control+" "+c.Instance)
	}
	if got := strings.Join(kinds, ", "); got != "pause dcs-prod-01, pause , resume dcs-prod-01, resume " {
		t.Errorf("history: %s", got)
	}
	if text := d.ok(t, "controls", "list", "--since", "1h"); strings.Contains(text, "\x1b") || !strings.Contains(text, "resumed all instances (by ") {
		t.Errorf("history: %q", text)
	}
	wantWords(t, "actions verify", d.ok(t, "actions", "verify"), "4 entries, 0 records")
}

func TestPauseNamesWhatItStops(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	j := d.journal(t)
	unlock, err := j.Lock(t.Context(), "dcs-prod-02")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	id, err := j.Begin(t.Context(), policies.Record{Instance: "dcs-prod-02", Node: "dcs-master-02", Action: policies.ReclaimExpired, Mode: policies.Live, At: decided})
	if err != nil {
		t.Fatal(err)
	}
	wantWords(t, "pause --all", d.ok(t, "pause", "--all", "--reason", "r"), "Under way, and stopped before its next command: reclaim-expired on dcs-master-02 of dcs-prod-02 (record "+id+")")
	if out := d.ok(t, "pause", "dcs-prod-01", "--reason", "r"); strings.Contains(out, id) {
		t.Errorf("an action of another instance: %s", out)
	}
}

func TestAckAndBreakerReset(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	j := d.journal(t)
	for _, id := range []string{"01ABENDED", "01AAOPEN"} { // of one fault one is open at a time
		in := policies.Incident{ID: id, Instance: "dcs-prod-01", Node: "dcs-slave-01", Metric: policies.MetricReplication, Cause: policies.CausePromoted, Opened: decided}
		if err := j.OpenIncident(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if id == "01ABENDED" {
			if err := j.CloseIncident(t.Context(), id, journal.Closing{Resolution: policies.ResolvedByItself, Text: "by itself"}, decided.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantWords(t, "ack", d.ok(t, "ack", "01aao", "--by", "ann", "--note", "mine"), "Incident 01AAOPEN (promoted on dcs-slave-01 of dcs-prod-01) is taken by ann; a running healer looks at it anew")
	wantWords(t, "ack", d.ok(t, "ack", "01ABENDED"), "it had ended already: by itself")
	if in := decode[policies.Incident](t, d.ok(t, "ack", "01AAOPEN", "--by", "bob", "-o", "json")); in.Ack == nil || in.Ack.By != "bob" {
		t.Errorf("ack -o json: %+v", in)
	}
	before, err := j.Nudged(t.Context(), "dcs-prod-02")
	if err != nil || before != 0 {
		t.Errorf("nudged %d, %v", before, err)
	}
	d.trip(t, "dcs-prod-02")
	rows := d.controls(t)
	if len(rows) != 3 || rows[0].Kind != "ack" || rows[0].By != "bob" || rows[1].Kind != "breaker" || rows[1].Instance != "" || rows[2].Instance != "dcs-prod-02" ||
		rows[2].Says != "open" || rows[2].Until.Sub(*rows[2].Since) != 10*time.Minute || !strings.Contains(rows[2].Reason, "3 actions in a row") {
		t.Errorf("controls: %+v", rows)
	}
	wantWords(t, "controls list", d.ok(t, "controls", "list"), "01AAOPEN", "all instances", "reclaim-expired", "open")
	wantWords(t, "breaker reset", d.ok(t, "breaker", "reset", "dcs-prod-02", "reclaim-expired", "--reason", "mended", "--by", "ann"), "The breaker of reclaim-expired on dcs-prod-02 is closed, it was open (by ann: mended)")
	if r := decode[journal.BreakerReset](t, d.ok(t, "breaker", "reset", "--fleet", "reclaim-expired", "--reason", "mended", "-o", "json")); r.Was != "open" || r.Instance != "" {
		t.Errorf("breaker reset --fleet: %+v", r)
	}
	if rows := d.controls(t); len(rows) != 1 {
		t.Errorf("after the resets: %+v", rows)
	}
	if seq, err := j.Nudged(t.Context(), "dcs-prod-02"); err != nil || seq == 0 {
		t.Errorf("nudged %d, %v: a reset has the healer look anew", seq, err)
	}
	history := d.ok(t, "controls", "list", "--since", "1h")
	wantWords(t, "history", history, "incident 01AAOPEN of dcs-prod-01 taken by ann: mine", "taken by bob", "breaker of reclaim-expired on dcs-prod-02 reset, it was open", "on all instances reset")
}

// trip opens the breakers of an instance and of the fleet, as three failures do.
func (d stateDir) trip(t *testing.T, instance string) {
	t.Helper()
	data, err := json.Marshal(gobreaker.SharedState{State: gobreaker.StateOpen, Expiry: time.Now().Add(5 * time.Minute), Buckets: make([]gobreaker.Counts, 1)})
	if err != nil {
		t.Fatal(err)
	}
	store := d.journal(t).BreakerStore()
	for _, of := range []string{instance, "*"} {
		if err := store.SetData("gobreaker:state:"+of+"/reclaim-expired", data); err != nil {
			t.Fatal(err)
		}
	}
}

func TestControlRefusals(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	for _, tc := range []struct{ args, words string }{
		{"pause --reason r", "name an instance, or --all"},
		{"pause dcs-prod-01 --all --reason r", "--all is every instance"},
		{"pause EMPTY --reason r", "name an instance, or --all"},
		{"pause dcs-prod-01", "--reason is required"},
		{"pause dcs-prod-01 --reason r --for 0s", "--for"},
		{"pause nosuch --reason r", "nosuch|dcs-prod-01, dcs-prod-02"},
		{"resume --reason r", "name an instance, or --all"},
		{"resume nosuch --reason r", "nosuch|dcs-prod-01, dcs-prod-02"},
		{"resume dcs-prod-01", "--reason is required"},
		{"ack 01NOSUCH", "no such incident|dcshealer incidents list"},
		{"ack", "arg"},
		{"breaker reset dcs-prod-01 --reason r", "INSTANCE ACTION"},
		{"breaker reset EMPTY reclaim-expired --reason r", "INSTANCE ACTION"},
		{"breaker reset --fleet dcs-prod-01 reclaim-expired --reason r", "name the action alone"},
		{"breaker reset dcs-prod-01 reboot --reason r", "reboot|reclaim-expired"},
		{"breaker reset nosuch reclaim-expired --reason r", "nosuch"},
		{"breaker reset dcs-prod-01 reclaim-expired", "--reason is required"},
		{"controls list --since soon", "--since"},
	} {
		args := strings.Fields(tc.args)
		for i := range args {
			args[i] = strings.Replace(args[i], "EMPTY", "", 1)
		}
		d.fails(t, args, strings.Split(tc.words, "|")...)
	}
	if rows := d.controls(t); len(rows) != 0 {
		t.Errorf("a refused command left %+v", rows)
	}
}

func TestAShortPauseDoesNotEndALongerOne(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	d.ok(t, "pause", "dcs-prod-01", "--reason", "disk swap", "--by", "ann")
	d.ok(t, "pause", "--all", "--for", "2h", "--reason", "freeze", "--by", "ann")
	for _, args := range [][]string{{"dcs-prod-01", "--for", "3s"}, {"--all", "--for", "1h"}} {
		_, errOut, code := d.command(t, slices.Concat([]string{"pause", "--reason", "mine", "--by", "bob"}, args)...)
		if code != exitDenied {
			t.Errorf("%v: exit %d, want %d", args, code, exitDenied)
		}
		wantWords(t, "pause", errOut, "is paused already until", "by ann: ", "dcshealer resume ")
	}
	d.ok(t, "pause", "--all", "--for", "3h", "--reason", "longer", "--by", "bob")
	d.ok(t, "pause", "dcs-prod-02", "--for", "3s", "--reason", "its own", "--by", "bob")
	if rows := d.controls(t); len(rows) != 3 || rows[0].By != "bob" || rows[1].By != "ann" {
		t.Errorf("controls: %+v", rows)
	}
}

// Who stops everything need not mend a file first.
func TestTheKillSwitchWorksWithAConfigThatHasFaults(t *testing.T) {
	t.Parallel()
	d := newStateDir(t)
	text, err := os.ReadFile(d.config)
	if err == nil {
		err = os.WriteFile(d.config, append(text, "budget: {storm: many}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.fails(t, []string{"pause", "dcs-prod-01", "--reason", "stop"}, "budget.storm", "many")
	out, errOut, code := d.command(t, "pause", "--all", "--reason", "stop", "--by", "ann")
	if code != exitDone || !strings.Contains(errOut, "has faults") || !strings.Contains(errOut, d.state) {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	if p, paused, err := d.journal(t).Paused(t.Context(), "dcs-prod-01", time.Now()); err != nil || !paused || p.By != "ann" {
		t.Errorf("pause %+v, %v, %v", p, paused, err)
	}
	if out, errOut, code := d.command(t, "resume", "--all", "--reason", "all clear"); code != exitDone {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	if _, paused, err := d.journal(t).Paused(t.Context(), "dcs-prod-01", time.Now()); err != nil || paused {
		t.Errorf("still paused, %v", err)
	}
}
