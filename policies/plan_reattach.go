package policies

import "strconv"

// PlanReattach makes the plan that puts a replica back under its master, and asks every guard. A link that is half open with the right
// master is made to connect again by CLIENT KILL TYPE master: REPLICAOF to the address it has would change nothing, and REPLICAOF NO
// ONE first would force a full copy. All else takes REPLICAOF. What it plans is data: it sends nothing.
func PlanReattach(f ReattachFacts, cause Cause) Plan {
	f.Kill = cause == CauseStuckLink
	f.Predicted = PredictResync(f.X.Replication, f.M.Replication)
	f.Facts.Commands = []string{"replicaof"}
	peer := f.MNode.Peer()
	commands := [][]string{{"REPLICAOF", peer.Host, strconv.Itoa(peer.Port)}}
	if f.Kill {
		f.Facts.Commands = []string{"client"}
		commands = [][]string{{"CLIENT", "KILL", "TYPE", "master"}}
	} else if f.Policy.Reattach.ConfigRewrite {
		f.Facts.Commands = append(f.Facts.Commands, "config")
		commands = append(commands, []string{"CONFIG", "REWRITE"})
	}
	p := Plan{Action: ReattachReplica, Node: f.XNode.Name, Mode: f.Mode, Cause: cause, Commands: commands,
		Guards: ReattachGuards(f), Expect: Expect{Resync: f.Predicted, Bytes: transfer(f)}}
	p.Decide()
	return p
}

// transfer is about how much the master has to send, in bytes.
func transfer(f ReattachFacts) Opt[int64] {
	if f.Predicted == ResyncFull {
		return f.M.Memory.Dataset
	}
	a, b := f.M.Replication.Offset, f.X.Replication.reach()
	if !a.Known || !b.Known {
		return Opt[int64]{}
	}
	return Known(max(0, a.V-b.V))
}

// ResyncCost orders replicas of one master by what their way back costs it: a partial resync by its bytes, then the full ones.
func ResyncCost(x, m Snapshot) int64 {
	const full = 1 << 50
	if PredictResync(x.Replication, m.Replication) == ResyncFull {
		return full
	}
	return min(full-1, max(0, m.Replication.Offset.Or(full)-x.Replication.reach().Or(0)))
}
