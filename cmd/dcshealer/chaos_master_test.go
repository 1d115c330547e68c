package main

import (
	"testing"

	"dcshealer/policies"
)

// Without a master there is nothing to attach to. When it is back, empty, the replicas follow it by themselves.
func chaosMasterKilled(t *testing.T, f *chaosFleet) {
	f.kill(t, chaosMaster)
	r := f.refused(t, chaosReplica, policies.CauseMasterDown)
	f.refused(t, chaosOther, policies.CauseMasterDown)
	f.startAgain(t, chaosMaster)
	f.backByItself(t, r)
}

// The promoted replica holds the only copy of the data: the master that comes back empty must never have it follow, not even
// when it has taken new writes, and not by hand.
func chaosMasterEmpty(t *testing.T, f *chaosFleet) {
	n := f.nodes[chaosReplica]
	f.kill(t, chaosMaster)
	n.promote(t)
	data := n.standing(t)
	f.refused(t, chaosReplica, policies.CauseMasterDown, policies.GuardMasterSafe)
	f.startAgain(t, chaosMaster)
	f.awaitSame(t, chaosOther) // which follows it and empties itself
	f.refused(t, chaosReplica, policies.CauseMasterEmpty, policies.GuardMasterSafe)
	f.nodes[chaosMaster].do(t, "SET", "new", "write")
	f.awaitSame(t, chaosOther)
	f.refused(t, chaosReplica, policies.CausePromoted, policies.GuardMasterSafe)
	if f.live {
		f.healByHand(t, exitDenied, "--allow-lost-writes", chaosReplica)
	}
	if now := n.standing(t); now != data {
		t.Errorf("the last copy of the data was %+v and is %+v", data, now)
	}
}
