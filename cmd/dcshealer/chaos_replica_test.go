package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

// allWell waits until both replicas hold what the master holds and the operator has nothing left to do. In dry run the fault that
// was planned for still stands.
func (f *chaosFleet) allWell(t *testing.T) {
	t.Helper()
	if !f.live {
		f.op.awaitState(t, policies.StateHeld)
		return
	}
	f.awaitInStep(t)
	f.op.awaitState(t, policies.StateIdle)
}

func chaosPromoted(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].promote(t)
	f.repaired(t, chaosReplica, policies.CausePromoted)
	f.allWell(t)
}

// A replica on a foreign master has lost its own data already: what it holds is a copy of that one.
func chaosForeignMaster(t *testing.T, f *chaosFleet) {
	f.startServers(t, map[string][]string{chaosStranger: nil})
	f.nodes[chaosStranger].do(t, "SET", "foreign", "data")
	f.nodes[chaosReplica].do(t, "REPLICAOF", chaosStranger, "6379")
	if !f.live { // the twin has the time to let the foreign data arrive
		f.awaitLink(t, chaosReplica, chaosStranger)
	}
	f.repaired(t, chaosReplica, policies.CauseWrongMaster)
	f.allWell(t)
	if v := f.nodes[chaosStranger].standing(t); v.role != "master" {
		t.Errorf("the foreign master became %+v", v)
	}
}

func (f *chaosFleet) awaitLink(t *testing.T, name, master string) {
	t.Helper()
	chaosAwait(t, name+" to follow "+master, func(ctx context.Context) error {
		v, err := f.nodes[name].look(ctx)
		if err == nil && (v.link != "up" || v.master != master+":6379") {
			err = fmt.Errorf("it is %+v", v)
		}
		return err
	})
}

func chaosDeadPort(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].do(t, "REPLICAOF", chaosMaster, "6390")
	f.repaired(t, chaosReplica, policies.CauseWrongMaster)
	f.allWell(t)
}

// What only the promoted replica holds is kept until a person gives it up, by name.
func chaosPromotedWithWrites(t *testing.T, f *chaosFleet) {
	n := f.nodes[chaosReplica]
	n.promote(t, []any{"SET", "only", "here"})
	f.refused(t, chaosReplica, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	if got := n.do(t, "GET", "only"); got != "here" {
		t.Errorf("the write on the promoted replica is %v now", got)
	}
	if !f.live {
		return
	}
	f.healByHand(t, exitDenied)
	f.healByHand(t, exitDone, "--allow-lost-writes", chaosReplica)
	f.wrote[chaosReplica] = []string{strings.Join(chaosTarget, " ")}
	f.allWell(t)
	f.healByHand(t, exitDone) // nothing is left to do, and status goes on telling of the healer that runs
	f.op.awaitState(t, policies.StateIdle)
}

// healByHand runs heal --live --yes beside the operator.
func (f *chaosFleet) healByHand(t *testing.T, want int, more ...string) {
	t.Helper()
	code, out, err := f.op.ask(t.Context(), slices.Concat([]string{"heal", "--instance", chaosInstance, "--live", "--yes"}, more)...)
	if err != nil || code != want {
		t.Errorf("heal %v: exit %d, want %d, %v: %s", more, code, want, err, out)
	}
}

func chaosReplicaKilled(t *testing.T, f *chaosFleet) {
	f.kill(t, chaosReplica)
	r := f.refused(t, chaosReplica, policies.CauseNodeDown)
	f.startAgain(t, chaosReplica)
	f.backByItself(t, r)
}

func chaosReplicaUnplugged(t *testing.T, f *chaosFleet) {
	f.unplug(t, chaosReplica)
	r := f.refused(t, chaosReplica, policies.CauseNodeDown)
	f.plugIn(t, chaosReplica)
	f.backByItself(t, r)
}

// The operator reaches both ends of the link that is cut: REPLICAOF to the same address would do nothing.
func chaosReplicaCutOff(t *testing.T, f *chaosFleet) {
	mend := f.cut(t, chaosReplica, chaosMaster)
	r := f.refused(t, chaosReplica, policies.CauseNetwork)
	mend()
	f.backByItself(t, r)
}

// backByItself waits until the fleet is well without the operator, and until its incident says so.
func (f *chaosFleet) backByItself(t *testing.T, refusal policies.Record) {
	t.Helper()
	in := f.ended(t, refusal)
	if !strings.Contains(in.Text, "by itself") && !strings.Contains(in.Text, "was restarted") {
		t.Errorf("incident %s ended as %s, %q: want that nobody changed what the node follows", in.ID, in.Resolution, in.Text)
	}
}

// backByPerson waits until the fleet is well after a person has changed what the replica follows, and until its incident says so.
func (f *chaosFleet) backByPerson(t *testing.T, refusal policies.Record) {
	t.Helper()
	if in := f.ended(t, refusal); in.Resolution != policies.ResolvedByOther || !strings.Contains(in.Text, "somebody made "+in.Node) {
		t.Errorf("incident %s ended as %s, %q: want that somebody changed what %s follows", in.ID, in.Resolution, in.Text, in.Node)
	}
}

// backWithoutUs waits until the fleet is well after a person has moved all of it, and until its incident says that it was not us.
func (f *chaosFleet) backWithoutUs(t *testing.T, refusal policies.Record) {
	t.Helper()
	if in := f.ended(t, refusal); in.Resolution == policies.ResolvedByUs || in.Resolution == policies.Abandoned {
		t.Errorf("incident %s ended as %s, %q: want that we did nothing for it", in.ID, in.Resolution, in.Text)
	}
}

// ended waits until the fleet is well, and returns the incident of a refusal, which is closed then.
func (f *chaosFleet) ended(t *testing.T, refusal policies.Record) (in policies.Incident) {
	t.Helper()
	f.awaitInStep(t)
	f.op.awaitState(t, policies.StateIdle)
	var list []policies.Incident
	if err := f.op.read(t.Context(), &list, exitDone, "incidents", "list"); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(in policies.Incident) bool { return in.ID == refusal.Incident })
	if i < 0 || list[i].Open() {
		t.Fatalf("incidents %+v, want %s among them, closed", list, refusal.Incident)
	}
	return list[i]
}

// One node that hangs does not keep the faults of another waiting.
func chaosReplicaPaused(t *testing.T, f *chaosFleet) {
	f.pause(t, chaosReplica)
	f.refused(t, chaosReplica, policies.CauseNodeHung)
	f.nodes[chaosOther].promote(t)
	f.repaired(t, chaosOther, policies.CausePromoted)
	f.unpause(t, chaosReplica)
	f.allWell(t)
}

// Without its bus the operator repairs as before; with it back, the readers hear of what happens next.
func chaosBusKilled(t *testing.T, f *chaosFleet) {
	f.kill(t, chaosBus)
	f.nodes[chaosReplica].promote(t)
	f.repaired(t, chaosReplica, policies.CausePromoted)
	f.startAgain(t, chaosBus)
	f.nodes[chaosOther].promote(t)
	f.repaired(t, chaosOther, policies.CausePromoted)
	f.op.await(t, "the archiver to keep the alarm of "+chaosOther, func(ctx context.Context) error {
		var list []json.RawMessage
		if err := f.op.read(ctx, &list, exitDone, "alarms", "list", "--severity", "critical", "--metric", string(policies.MetricReplication), "--limit", "0"); err != nil {
			return err
		}
		for _, raw := range list {
			var a struct{ Instance, Node, Status string }
			if err := json.Unmarshal(raw, &a); err != nil {
				return err
			}
			if a.Instance == chaosInstance && a.Node == chaosOther && a.Status != string(policies.Resolved) {
				return nil
			}
		}
		return fmt.Errorf("it has %d: %s", len(list), list)
	})
	f.allWell(t)
}
