package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

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

// A terminal of 80 columns shows each instance on a line that fits, with what matters most; a pipe, and a wide one, all of it.
func TestStatusFitsTheTerminal(t *testing.T) {
	now := decided.Add(time.Hour)
	since := decided
	open := policies.Incident{ID: "01J00000000000000000000000", Cause: policies.CausePromoted, Node: "dcs-slave-01"}
	busy := instanceStatus{Instance: "dcs-prod-01", State: policies.StateEscalated, Since: &since, Paused: true, Open: []policies.Incident{open},
		Modes:      map[policies.Action]policies.Mode{policies.ReattachReplica: policies.Live, policies.ReclaimExpired: policies.Live},
		Breakers:   map[policies.Action]string{policies.ReattachReplica: "open", policies.ReclaimExpired: "closed"},
		LastAction: &policies.LastAction{ID: "01J1", Action: policies.ReattachReplica, Node: "dcs-slave-01", Outcome: policies.OutcomeFailed, At: decided}}
	s := fleetStatus{Instances: []instanceStatus{busy, {Instance: "dcs-prod-02", State: policies.StateIdle, Since: &since}}}
	for width, c := range map[int]struct{ shows, leavesOut []string }{
		0:   {[]string{"escalated, paused", "reclaim-expired reattach-replica", "reattach-replica open", open.ID + ": promoted on dcs-slave-01", "reattach-replica on dcs-slave-01 failed, 1h0m ago"}, nil},
		250: {[]string{open.ID, "reattach-replica on dcs-slave-01 failed, 1h0m ago"}, nil},
		150: {[]string{"escalated, paused", "promoted", "reattach-replica failed, 1h0m ago"}, []string{open.ID}},
		110: {[]string{"escalated, paused", "2 actions", "1 not closed", "promoted", "reattach-replica failed, 1h0m ago"}, []string{open.ID, "reclaim-expired"}},
		80:  {[]string{"dcs-prod-01  escalated, paused  1h0m", "2 actions", "1 not closed", "promoted"}, []string{"LAST ACTION", "reattach-replica"}},
		40:  {[]string{"dcs-prod-01  escalated, paused"}, []string{"FOR"}},
	} {
		for _, colours := range []bool{false, true} {
			table := s.fleetTable(now, paint(colours), width)
			for line := range strings.Lines(table) {
				if n := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
					t.Errorf("%d columns on a terminal of %d: %s", n, width, line)
				}
			}
			plain := text.StripEscape(table)
			for _, want := range c.shows {
				if !strings.Contains(plain, want) {
					t.Errorf("%d columns do not show %q:\n%s", width, want, plain)
				}
			}
			for _, not := range c.leavesOut {
				if strings.Contains(plain, not) {
					t.Errorf("%d columns show %q:\n%s", width, not, plain)
				}
			}
		}
	}
}

// What goes on until Ctrl-C ends also when its reader is gone, though there is nothing more to write.
func TestWhatFollowsEndsWithItsReader(t *testing.T) {
	d := newStateDir(t)
	d.alarms(t, map[int]string{1: "the only one"})
	for _, args := range [][]string{{"status", "--watch"}, {"alarms", "list", "--follow"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		ended := make(chan int, 1)
		var stderr textBuffer
		go func() { ended <- run(append(args, "-c", d.config), w, &stderr) }()
		if n, err := r.Read(make([]byte, 1)); n != 1 {
			t.Fatalf("%q prints nothing: %v", args, err)
		}
		r.Close()
		select {
		case code := <-ended:
			if code != exitDone || stderr.String() != "" {
				t.Errorf("%q: exit %d: %s", args, code, stderr.String())
			}
		case <-time.After(patience):
			t.Fatalf("%q goes on without a reader", args)
		}
	}
}
