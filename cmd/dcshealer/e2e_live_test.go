package main

import (
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

// pair is an instance of a master and its replica.
type pair struct{ m, r *server }

func newPair(t *testing.T) pair {
	m := startServer(t)
	m.do("SET", "k", "v")
	return pair{m, startReplica(t, m)}
}

// addPair adds it as NAME with the nodes NAME-m and NAME-r.
func (f *fleet) addPair(name, settings string, p pair) {
	f.add(name, settings, master(name+"-m", p.m), replica(name+"-r", p.r))
}

// One of two broken instances is live: it is healed, the other is planned for until a person lets it. The records tell both.
func TestLiveIsPerInstance(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	one, two := newPair(t), newPair(t)
	f.addPair("one", "live: [reattach-replica]", one)
	f.addPair("two", "", two)
	one.r.detach()
	two.r.detach()
	p := running(t, "-c", f.write())
	until(t, "the live one is healed", one.r.linked)
	healed := f.outcome("one", policies.OutcomeSucceeded)
	planned := f.outcome("two", policies.OutcomePlanned)
	if two.r.info("role") != "master" {
		t.Error("the one in dry run was touched")
	}
	f.explains(healed, planned)

	f.switchLive("enable", "two", "--for", "1h")
	until(t, "the second is healed once it is live", two.r.linked)
	f.outcome("two", policies.OutcomeSucceeded)
	f.disabledAndExpired(two)
	p.stopsWell(sigterm)
	f.verifies()
}

func (f *fleet) switchLive(verb, instance string, more ...string) {
	f.t.Helper()
	succeeds(f.t, append([]string{"live", verb, instance, "-c", f.file, "--action", "reattach-replica", "--reason", "e2e", "--by", "ann"}, more...)...)
}

// mode is what status says of reattach-replica on an instance.
func (f *fleet) mode(instance string) policies.Mode {
	f.t.Helper()
	for _, in := range f.status().Instances {
		if in.Instance == instance {
			return in.Modes[policies.ReattachReplica]
		}
	}
	f.t.Fatalf("status has no %s", instance)
	return ""
}

// disabledAndExpired takes the permission back, gives it for 2 s, and each time breaks the instance after it is over.
func (f *fleet) disabledAndExpired(in pair) {
	f.t.Helper()
	f.switchLive("disable", "two")
	in.r.detach()
	f.plannedAgain("two", 2)
	f.switchLive("enable", "two")
	until(f.t, "it is healed once enabled again", in.r.linked)
	f.switchLive("enable", "two", "--for", "2s")
	if f.mode("two") != policies.Live {
		f.t.Error("not live within the 2 s")
	}
	until(f.t, "the permission has expired", func() bool { return f.mode("two") == policies.DryRun })
	in.r.detach()
	f.plannedAgain("two", 3)
	if in.r.info("role") != "master" {
		f.t.Error("healed after the permission had expired")
	}
}

// plannedAgain waits for the nth record that is only planned.
func (f *fleet) plannedAgain(instance string, n int) {
	f.t.Helper()
	until(f.t, "another plan is recorded", func() bool { return len(f.records("--instance", instance, "--outcome", "planned")) >= n })
}

// explains checks what actions list and show say of a repair and of a plan.
func (f *fleet) explains(healed, planned policies.Record) {
	t := f.t
	t.Helper()
	matches(t, "actions", parse[any](t, succeeds(t, "actions", "list", "-c", f.file, "-o", "json")), list{recordForm})
	for _, r := range []policies.Record{healed, planned} {
		shown := succeeds(t, "actions", "show", r.ID, "-c", f.file, "-o", "json")
		matches(t, "record", parse[any](t, shown), recordForm)
		if parse[policies.Record](t, shown).Hash == "" || r.Cause != policies.CausePromoted || r.Trigger != policies.TriggerAlarm || r.Alarm == "" || r.Incident == "" {
			t.Errorf("record %+v", r)
		}
	}
	if len(healed.Commands) != 1 || healed.Commands[0].Args[0] != "REPLICAOF" || healed.Commands[0].Reply != "OK" || len(healed.DeniedBy) > 0 || healed.Mode != policies.Live {
		t.Errorf("the repair: %+v", healed)
	}
	if len(planned.Commands) != 0 || !slices.Equal(planned.DeniedBy, []policies.Guard{policies.GuardMode}) || planned.Mode != policies.DryRun {
		t.Errorf("the plan: %+v", planned)
	}
	for r, want := range map[*policies.Record][]string{
		&healed:  {"reattach-replica on one, node one-r: succeeded", "REPLICAOF 127.0.0.1", "-> OK", "allow  mode"},
		&planned: {"reattach-replica on two, node two-r: planned", "deny   mode", "dcshealer live enable two --action reattach-replica", "Nothing was sent."},
	} {
		story := succeeds(t, "actions", "show", r.ID, "-c", f.file)
		for _, text := range want {
			if !strings.Contains(story, text) {
				t.Errorf("the story of %s does not say %q:\n%s", r.ID, text, story)
			}
		}
	}
	table := succeeds(t, "actions", "list", "-c", f.file)
	for _, text := range []string{healed.ID, "succeeded", planned.ID, "planned", "denied by mode"} {
		if !strings.Contains(table, text) {
			t.Errorf("actions list does not say %q:\n%s", text, table)
		}
	}
}

// --dry-run beats what the config and a person have made live.
func TestDryRunFlagBeatsLive(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	in := newPair(t)
	f.addPair("two", "live: [reattach-replica]", in)
	in.r.detach()
	p := running(t, "-c", f.write(), "--dry-run")
	f.switchLive("enable", "two")
	r := f.outcome("two", policies.OutcomePlanned)
	if r.Mode != policies.DryRun || len(r.Guards) == 0 || !strings.Contains(r.Guards[0].Reason, "--dry-run") {
		t.Errorf("the plan: %+v", r)
	}
	if f.mode("two") != policies.DryRun {
		t.Error("status calls it live")
	}
	p.stopsWell(sigint)
	if in.r.info("role") != "master" || len(f.records("--outcome", "succeeded")) > 0 {
		t.Error("it was healed")
	}
}
