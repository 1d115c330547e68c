package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// One healer a state_dir; every other command works beside it and without it, and one given by hand never acts at the same
// time as the healer.
func TestCommandsBesideARunAndWithoutOne(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	in := newPair(t)
	f.addPair("one", "", in)
	f.addPair("two", "", newPair(t))
	file := f.write()
	p := running(t, "-c", file)
	p.prints(policies.HealerStartLine)

	start := time.Now()
	code, _, stderr := command(t, "run", "-c", file)
	for _, text := range []string{"a healer is already running", f.state, fmt.Sprint(p.cmd.Process.Pid), "stop it, or give this one another state_dir"} {
		if !strings.Contains(stderr, text) {
			t.Errorf("a second run says %q, want %q in it", stderr, text)
		}
	}
	if code != exitFailed || time.Since(start) > 5*time.Second {
		t.Errorf("a second run: exit %d after %v, want %d at once", code, time.Since(start), exitFailed)
	}
	if p.hasEnded() || !f.status().Running {
		t.Error("the first run suffered")
	}
	second := running(t, "-c", file, "--roles", "dba,dashboard") // without a healer it may
	second.stopsWell(sigterm)

	t.Run("beside", func(t *testing.T) { everyCommand(t, f, in, true) })
	p.stopsWell(sigterm)
	t.Run("without", func(t *testing.T) { everyCommand(t, f, in, false) })
	f.verifies()
}

// everyCommand breaks the replica, and lets each command do its part.
func everyCommand(t *testing.T, f *fleet, in pair, beside bool) {
	matches(t, "status", parse[any](t, succeeds(t, "status", "-c", f.file, "-o", "json")), statusForm)
	if f.status().Running != beside {
		t.Errorf("status: running %v, want %v", !beside, beside)
	}
	if code, stdout, _ := command(t, "plan", "-c", f.file); code != exitDone || strings.Count(stdout, "healthy: nothing found") != 2 {
		t.Errorf("plan of a healthy fleet: exit %d, want 0\n%s", code, stdout)
	}
	if code, stdout, _ := command(t, "heal", "-c", f.file, "--instance", "one"); code != exitDone || stdout != "one: nothing to do\n" {
		t.Errorf("heal of a healthy instance: exit %d, want 0: %q", code, stdout)
	}
	in.r.detach()
	if code, stdout, _ := command(t, "plan", "-c", f.file, "--instance", "one"); code != exitPlanned || !strings.Contains(stdout, "PLAN     reattach-replica on one-r (dry-run): stopped by mode") {
		t.Errorf("plan: exit %d, want 2\n%s", code, stdout)
	}
	if code, stdout, _ := command(t, "heal", "-c", f.file, "--instance", "one"); code != exitPlanned || !strings.Contains(stdout, "plan (dry-run): reattach-replica on one-r") {
		t.Errorf("heal without --live: exit %d, want 2\n%s", code, stdout)
	}
	togetherByHand(t, f)
	healed := func() string {
		code, stdout, stderr := command(t, "heal", "-c", f.file, "--instance", "one", "--live", "--yes", "-o", "json")
		if code != exitDone {
			t.Errorf("heal --live --yes: exit %d, want 0\n%s%s", code, stdout, stderr)
		}
		return stdout
	}()
	records := parse[struct{ Records []any }](t, healed).Records
	matches(t, "heal", any(records), list{recordForm})
	if len(records) != 1 || !in.r.linked() {
		t.Errorf("heal --live --yes: %d records, linked %v", len(records), in.r.linked())
	}
	for _, args := range [][]string{{"live", "list"}, {"live", "enable", "two", "--action", "reclaim-expired", "--for", "1m", "--reason", "e2e"}, {"live", "list", "-o", "json"},
		{"live", "disable", "two", "--action", "reclaim-expired", "--reason", "e2e"}, {"actions", "list"}, {"actions", "verify", "-o", "json"}, {"alarms", "list"},
		{"alarms", "list", "-o", "json"}, {"alarms", "trend"}, {"status"}, {"config", "check"}} {
		succeeds(t, append(args, "-c", f.file)...)
	}
	alarms := parse[any](t, succeeds(t, "alarms", "list", "-c", f.file, "-o", "json"))
	matches(t, "alarms", alarms, list{alarmForm})
}

// togetherByHand starts two commands by hand at once: what they see is one incident, and who comes second says so.
func togetherByHand(t *testing.T, f *fleet) {
	t.Helper()
	var two [2]*process
	for i := range two {
		two[i] = background(t, "heal", "-c", f.file, "--instance", "one")
	}
	planned := 0
	for _, p := range two {
		<-p.ended
		code, said := p.cmd.ProcessState.ExitCode(), p.stderr.String()
		switch {
		case code == exitPlanned:
			planned++
		case code != exitDenied || !strings.Contains(said, "heal one: another command heals it by hand: process "):
			t.Errorf("one of two: exit %d\n%s", code, said)
		}
	}
	if planned == 0 {
		t.Error("none of the two has planned")
	}
	open := parse[[]policies.Incident](t, succeeds(t, "incidents", "list", "--instance", "one", "--open", "-c", f.file, "-o", "json"))
	if len(open) != 1 {
		t.Errorf("%d open incidents, want one: %+v", len(open), open)
	}
}
