package main

import (
	"strings"
	"testing"

	"dcshealer/policies"
)

// chaosChained starts the second replica below the first.
var chaosChained = map[string][]string{chaosOther: {"--replicaof", chaosReplica, "6379"}}

// The shapes that an instance can take, and the ways in which its nodes can hold other data than they should.
var chaosTopologyScenarios = []chaosScenario{
	{name: "config rewritten", run: chaosConfigRewritten, config: "policy: rewriting", policy: chaosRewriting},
	{name: "config not to be rewritten", run: chaosNoConfigFile, config: "policy: rewriting", policy: chaosRewriting},
	{name: "master of a newer release", run: chaosNewerMaster},
	{name: "master back with older data", run: chaosMasterOlder},
	{name: "writes under way", run: chaosWritesUnderWay},
	{name: "both replicas off at once", run: chaosBothOff},
	{name: "chain below a replica that is off", args: chaosChained, run: chaosMiddleOff},
	{name: "chain below a promoted replica", args: chaosChained, run: chaosMiddlePromoted},
	{name: "chain below a replica promoted with writes", args: chaosChained, run: chaosMiddleWritten},
	{name: "chain made by a person", run: chaosChainMade},
	{name: "cycle", args: chaosChained, run: chaosCycle},
	{name: "cycle of the replicas", args: chaosChained, run: chaosReplicasCycle},
	{name: "chain", args: chaosChained, run: chaosChain},
	{name: "two masters", run: chaosTwoMasters},
	{name: "switch-over half way", run: chaosHalfSwitched},
	{name: "switched over", run: chaosSwitchedOver},
	{name: "address of the master for a replica", run: chaosSameNode},
	{name: "master flushed", run: chaosMasterFlushed},
	{name: "expired keys of a promoted replica", run: chaosExpiredThere},
	{name: "expired keys and a write", run: chaosExpiredAndWritten},
	{name: "writable replica promoted", run: chaosWritablePromoted},
}

// Both masters have taken writes: whichever is chosen, a person chooses it.
func chaosTwoMasters(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].promote(t, []any{"SET", "written to", "the new master"})
	f.follow(t, chaosOther, chaosReplica)
	f.nodes[chaosMaster].do(t, "SET", "written to", "the old master")
	f.awaitCopy(t, chaosOther, chaosReplica)
	r := f.refused(t, chaosReplica, policies.CauseTwoMasters, policies.GuardNoLostWrites)
	f.refused(t, chaosOther, policies.CauseTwoMasters)
	f.follow(t, chaosReplica, chaosMaster)
	f.follow(t, chaosOther, chaosMaster)
	f.backByPerson(t, r)
}

// The old master is not a replica yet and nobody has written: the replica that follows the new one tells that it is meant. On Redis 6.0 it
// takes up to a second to connect.
func chaosHalfSwitched(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosReplica].promote(t)
	f.follow(t, chaosOther, chaosReplica)
	f.awaitCopy(t, chaosOther, chaosReplica)
	r := f.refused(t, chaosReplica, policies.CauseTwoMasters, policies.GuardNoLostWrites)
	f.refused(t, chaosOther, policies.CauseTwoMasters)
	f.sameData(t, before)
	f.follow(t, chaosReplica, chaosMaster)
	f.follow(t, chaosOther, chaosMaster)
	f.backByPerson(t, r)
}

// What a person switched over is never switched back. The config that names the new master ends the warning.
func chaosSwitchedOver(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].promote(t)
	f.follow(t, chaosMaster, chaosReplica)
	f.follow(t, chaosOther, chaosReplica)
	f.awaitCopy(t, chaosMaster, chaosReplica)
	f.awaitCopy(t, chaosOther, chaosReplica)
	before := f.standing(t)
	f.op.awaitPlan(t, map[string]policies.Cause{chaosReplica: policies.CauseSwitchedOver, chaosOther: policies.CauseSwitchedOver})
	f.op.awaitState(t, policies.StateIdle) // a warning is no incident
	f.unchanged(t, before)
	f.noPlans(t)
	f.reconfigure(t, strings.NewReplacer(
		"address: master:6379, role: master", "address: master:6379, role: replica",
		"address: replica-1:6379, role: replica", "address: replica-1:6379, role: master").Replace(f.config()))
	f.op.awaitPlan(t, nil)
	f.op.awaitState(t, policies.StateIdle)
	f.unchanged(t, before)
	f.noPlans(t)
}

func chaosChain(t *testing.T, f *chaosFleet) {
	f.awaitCopy(t, chaosOther, chaosReplica)
	f.unchanged(t, f.standing(t))
	f.op.awaitPlan(t, nil)
	f.op.awaitState(t, policies.StateIdle)
	f.noRecords(t)
}

// A person may make a chain: while its link comes up, on Redis 6.0 for up to a second, nobody undoes it.
func chaosChainMade(t *testing.T, f *chaosFleet) {
	f.follow(t, chaosOther, chaosReplica)
	f.awaitCopy(t, chaosOther, chaosReplica)
	f.unchanged(t, f.standing(t))
	f.op.awaitState(t, policies.StateIdle)
	f.noPlans(t)
}

// The end of the chain lost its data source too, and nothing is wrong with it: it comes back with the middle.
func chaosMiddleOff(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].do(t, "REPLICAOF", chaosMaster, "6390")
	f.repaired(t, chaosReplica, policies.CauseWrongMaster)
	f.putRight(t, chaosReplica)
	f.awaitCopy(t, chaosOther, chaosReplica)
	f.noPlans(t, chaosOther)
}

// The middle keeps the replica that it had. It comes back with all that is below it, which the operator leaves alone.
func chaosMiddlePromoted(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.awaitReadings(t, chaosKnown) // PINGs to the end will grow the history
	f.nodes[chaosReplica].promote(t)
	if !f.live { // the twin has the time to let the end take over the history of the middle
		f.awaitCopy(t, chaosOther, chaosReplica)
	}
	f.repaired(t, chaosReplica, policies.CausePromoted)
	f.putRight(t, chaosReplica)
	f.awaitCopy(t, chaosOther, chaosReplica)
	f.noPlans(t, chaosOther)
	f.sameData(t, before)
}

// What the middle took as a master, the end of the chain has, too: it is their only copy.
func chaosMiddleWritten(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].promote(t, []any{"SET", "only", "here"})
	f.awaitCopy(t, chaosOther, chaosReplica)
	r := f.refused(t, chaosReplica, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	f.refused(t, chaosOther, policies.CauseChained)
	for _, name := range []string{chaosReplica, chaosOther} {
		if got := f.nodes[name].do(t, "GET", "only"); got != "here" {
			t.Errorf("%s says of the only write %v", name, got)
		}
	}
	f.follow(t, chaosReplica, chaosMaster)
	f.backByPerson(t, r)
	f.awaitCopy(t, chaosOther, chaosReplica)
}

// Nobody is a master: from 7.0 on all links are up, and no node takes a write.
func chaosCycle(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.follow(t, chaosMaster, chaosOther)
	r := f.refused(t, chaosReplica, policies.CauseCycle)
	f.refused(t, chaosOther, policies.CauseCycle)
	f.sameData(t, before)
	f.nodes[chaosMaster].promote(t)
	f.backByItself(t, r)
	f.sameData(t, before)
}

// The master is well and both replicas follow each other. One step is enough: the other one follows by itself.
func chaosReplicasCycle(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.follow(t, chaosReplica, chaosOther)
	f.repaired(t, chaosReplica, policies.CauseWrongMaster)
	f.putRight(t, chaosReplica)
	f.awaitCopy(t, chaosOther, chaosReplica)
	f.sameData(t, before)
}

// The config says that the master's own address is the replica's. REPLICAOF there would make the master follow itself.
func chaosSameNode(t *testing.T, f *chaosFleet) {
	real := f.nodes[chaosReplica]
	real.away = true // for the operator, which goes on reading the others
	data := real.standing(t)
	f.reconfigure(t, strings.Replace(f.config(), "address: replica-1:6379", "address: "+f.ip(chaosMaster).String()+":6379", 1))
	f.refused(t, chaosReplica, policies.CauseSameNode)
	if f.live {
		f.healByHand(t, exitDenied)
	}
	f.noPlans(t)
	f.reconfigure(t, f.config())
	real.away = false
	f.putRight(t)
	f.op.awaitPlan(t, nil)
	if now := real.standing(t); now != data {
		t.Errorf("the replica was %+v and is %+v", data, now)
	}
}

// The one that costs the master least comes first, and the other waits until it is back.
func chaosBothOff(t *testing.T, f *chaosFleet) {
	f.nodes[chaosOther].do(t, "REPLICAOF", chaosMaster, "6390")
	f.nodes[chaosReplica].promote(t)
	f.repaired(t, chaosOther, policies.CauseWrongMaster)
	f.repaired(t, chaosReplica, policies.CausePromoted)
	first, second := f.lastOf(t, chaosOther), f.lastOf(t, chaosReplica)
	if first.Expect.Resync != policies.ResyncPartial || second.Expect.Resync != policies.ResyncFull {
		t.Errorf("the copies were predicted as %s and %s, want partial and full", first.Expect.Resync, second.Expect.Resync)
	}
	if f.live && second.At.Before(first.Finished) {
		t.Errorf("the full copy began at %s, before the partial one ended at %s", second.At, first.Finished)
	}
	if !f.live && second.At.Before(first.At) {
		t.Errorf("the full copy was planned at %s, before the partial one at %s", second.At, first.At)
	}
	f.putRight(t, chaosOther, chaosReplica)
}

// lastOf is the newest record of a node with an action.
func (f *chaosFleet) lastOf(t *testing.T, node string) policies.Record {
	t.Helper()
	return f.op.awaitRecord(t, "an action on "+node, func(r policies.Record) bool { return r.Node == node && r.Action != "" })
}
