package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

// chaosReadings is how many readings of a node by the operator prove that it had time to act and did not: the agent reads twice
// a second, the healer twice each 3 s while an incident is open.
const chaosReadings = 10

// awaitReadings waits until the operator has read each node in reach n times more.
func (f *chaosFleet) awaitReadings(t *testing.T, n int) {
	t.Helper()
	start := map[string]int{}
	for name, node := range f.watched() {
		start[name] = f.readings(t.Context(), t, node)
	}
	chaosAwait(t, "the operator to go on reading", func(ctx context.Context) error {
		for name, node := range f.watched() {
			if got := f.readings(ctx, t, node) - start[name]; got < n && !node.unlogged {
				return fmt.Errorf("%s was read %d times, want %d", name, got, n)
			}
		}
		return nil
	})
}

func (f *chaosFleet) readings(ctx context.Context, t *testing.T, n *chaosNode) (times int) {
	t.Helper()
	sent, err := n.from(ctx, f.ip(chaosOperator).String())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range sent {
		if strings.EqualFold(args[0], "info") {
			times++
		}
	}
	return times
}

// watched are the nodes of the instance that can be asked now.
func (f *chaosFleet) watched() map[string]*chaosNode {
	out := maps.Clone(f.nodes)
	maps.DeleteFunc(out, func(name string, n *chaosNode) bool { return name == chaosBus || name == chaosStranger || n.away })
	return out
}

// standing is what all of them are and hold.
func (f *chaosFleet) standing(t *testing.T) map[string]chaosView {
	t.Helper()
	out := map[string]chaosView{}
	for name, n := range f.watched() {
		out[name] = n.standing(t)
	}
	return out
}

// unchanged waits until the operator had time to act, and fails if anything is not as it was.
func (f *chaosFleet) unchanged(t *testing.T, before map[string]chaosView) {
	t.Helper()
	f.awaitReadings(t, chaosReadings)
	after := f.standing(t)
	for name, was := range before {
		if now, ok := after[name]; ok && now != was {
			t.Errorf("%s changed: it was %+v and is %+v", name, was, now)
		}
	}
}

// chaosTarget is the one command that a reattachment sends.
var chaosTarget = []string{"REPLICAOF", chaosMaster, "6379"}

// repaired waits for the repair of a replica and its proof. In dry run it waits for the plan instead, and nothing may change.
func (f *chaosFleet) repaired(t *testing.T, node string, cause policies.Cause) {
	t.Helper()
	if !f.live {
		f.planned(t, node, cause)
		return
	}
	r := f.op.awaitRecord(t, "the repair of "+node, func(r policies.Record) bool {
		return r.Node == node && r.Action == policies.ReattachReplica && r.Outcome == policies.OutcomeSucceeded
	})
	f.wrote[node] = append(f.wrote[node], strings.Join(chaosTarget, " "))
	if r.Cause != cause || r.Mode != policies.Live || r.Trigger != policies.TriggerAlarm || len(r.DeniedBy) > 0 || r.Finished.IsZero() {
		t.Errorf("the repair of %s: cause %s (want %s), mode %s, trigger %s, denied by %v, finished %v", node, r.Cause, cause, r.Mode, r.Trigger, r.DeniedBy, r.Finished)
	}
	if len(r.Commands) != 1 || !slices.Equal(r.Commands[0].Args, chaosTarget) || r.Commands[0].Reply != "OK" || r.Commands[0].Node != node {
		t.Errorf("the repair of %s sent %+v, want %v answered OK", node, r.Commands, chaosTarget)
	}
	if seen := fmt.Sprint(r.Effect["resync"]); seen != string(r.Expect.Resync) || r.Effect["attached"] != true {
		t.Errorf("the repair of %s predicted a %s resync, its effect is %v", node, r.Expect.Resync, r.Effect)
	}
}

// planned waits for the dry-run plan: only the mode stands against it, nothing was sent, nothing changes.
func (f *chaosFleet) planned(t *testing.T, node string, cause policies.Cause) {
	t.Helper()
	before := f.standing(t)
	r := f.op.awaitRecord(t, "the plan for "+node, func(r policies.Record) bool {
		return r.Node == node && r.Action == policies.ReattachReplica && r.Outcome == policies.OutcomePlanned
	})
	if r.Cause != cause || r.Mode != policies.DryRun || !slices.Equal(r.DeniedBy, []policies.Guard{policies.GuardMode}) || len(r.Commands) > 0 {
		t.Errorf("the plan for %s: cause %s (want %s), mode %s, denied by %v, commands %v", node, r.Cause, cause, r.Mode, r.DeniedBy, r.Commands)
	}
	if len(r.Planned) != 1 || !slices.Equal(r.Planned[0], chaosTarget) {
		t.Errorf("the plan for %s is %v, want %v", node, r.Planned, chaosTarget)
	}
	f.checkPlanCommand(t, node)
	f.unchanged(t, before)
}

// checkPlanCommand asks plan, which probes for itself and has to say the same.
func (f *chaosFleet) checkPlanCommand(t *testing.T, node string) {
	t.Helper()
	var report planReport
	if err := f.op.read(t.Context(), &report, exitPlanned, "plan"); err != nil {
		t.Error(err)
		return
	}
	for _, p := range report.Instances[0].Plans {
		if p.Node == node {
			if p.Permitted || !slices.Equal(p.DeniedBy, []policies.Guard{policies.GuardMode}) || !slices.Equal(p.Commands[0], chaosTarget) {
				t.Errorf("plan says of %s: %v, permitted %v, denied by %v", node, p.Commands, p.Permitted, p.DeniedBy)
			}
			return
		}
	}
	t.Errorf("plan has nothing for %s: %+v", node, report.Instances[0])
}

// refused waits for the refusal to do anything about a node: by the guards, or, with none, because no action cures the cause.
// Nothing may change.
func (f *chaosFleet) refused(t *testing.T, node string, cause policies.Cause, guards ...policies.Guard) policies.Record {
	t.Helper()
	before := f.standing(t)
	r := f.op.awaitRecord(t, fmt.Sprintf("a refusal for %s, cause %s, by %v", node, cause, guards), func(r policies.Record) bool {
		// The same cause has no plan before a fault is complete: a replica of a dead master, and then promoted.
		return r.Node == node && r.Cause == cause && r.Outcome == policies.OutcomeDenied && (len(guards) == 0) == (r.Action == "")
	})
	if !f.live && len(guards) > 0 {
		guards = append(guards, policies.GuardMode)
	}
	for _, g := range guards {
		if !slices.Contains(r.DeniedBy, g) {
			t.Errorf("%s of %s was denied by %v, want %s among them", cause, node, r.DeniedBy, g)
		}
	}
	if len(r.Commands) > 0 {
		t.Errorf("%s of %s: commands %v", cause, node, r.Commands)
	}
	f.op.awaitState(t, policies.StateEscalated)
	f.unchanged(t, before)
	return r
}

// checkTraces ends every scenario: the servers saw nothing from the operator but reads and what the repairs had to send, the
// journal is whole, and no part of the operator broke.
func (f *chaosFleet) checkTraces(t *testing.T) {
	t.Helper()
	for name, n := range f.nodes {
		if name == chaosBus || n.away {
			continue
		}
		if writes := f.writes(t, n); !slices.Equal(writes, f.wrote[name]) {
			t.Errorf("the operator sent %q to %s besides reads, want %q", writes, name, f.wrote[name])
		}
	}
	if code, out, err := f.op.ask(t.Context(), "actions", "verify"); err != nil || code != exitDone {
		t.Errorf("actions verify: exit %d, %v: %s", code, err, out)
	}
	for _, bad := range []string{"panic", "round failed", "state machine in state"} {
		if text := f.lab.logs(t, f.op.c); strings.Contains(text, bad) {
			t.Errorf("the operator's log has %q", bad)
		}
	}
}

// writes are the commands that a node was sent by the operator besides reads, oldest first.
func (f *chaosFleet) writes(t *testing.T, n *chaosNode) (writes []string) {
	t.Helper()
	sent, err := n.from(t.Context(), f.ip(chaosOperator).String())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range sent {
		if !chaosReadOnly(args) && !(f.counts[n.name] && chaosCounts(args)) {
			writes = append(writes, strings.Join(args, " "))
		}
	}
	return writes
}
