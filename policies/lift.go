package policies

// Lift says what makes a denial by a guard go away: time, a command or a setting. It is for the person who asks why nothing is done; the
// guard's own reason says what it saw.
func Lift(g Guard, instance string, a Action) string {
	on := instance + " --action " + string(a)
	switch g {
	case GuardMode:
		return "dcshealer live enable " + on + " --for 2h --reason WHY"
	case GuardPause:
		return "dcshealer resume " + instance + " (or --all), or the end of the pause"
	case GuardWindow:
		return "time: the next window opens by itself; or windows of the policy"
	case GuardConfirmed:
		return "time: two probes in a row that agree"
	case GuardCapability:
		return "grant the command to the user on the node; with cluster mode on there is no remedy"
	case GuardIdentity:
		return "time: it is diagnosed anew"
	case GuardBreaker:
		return "one trial 10 min after it opened, or dcshealer breaker reset " + instance + " " + string(a) + " --reason WHY"
	case GuardCooldown:
		return "time; or remediation." + string(a) + ".cooldown"
	case GuardBusy:
		return "time: what runs there has to end"
	case GuardBudget:
		return "time: an action elsewhere has to end; or the budget section"
	case GuardStorm:
		return "the other instances getting well; or budget.storm"
	case GuardTilt:
		return "time: a while without a stall or a step of the clock"
	case GuardManagedElsewhere:
		return "time: the grace has to pass; or managed_by and remediation.reattach-replica.grace"
	case GuardTugOfWar:
		return "find what changes it back; an hour without it, or remediation.reattach-replica.undone"
	}
	return liftOfAction(g, instance)
}

func liftOfAction(g Guard, instance string) string {
	switch g {
	case GuardOptIn:
		return "ladder of the instance in the config"
	case GuardPatterns:
		return "the patterns of the policy's remediation section"
	case GuardVictims:
		return "time: keys or clients that may go; or the policy's remediation section"
	case GuardMasterSafe:
		return "a master that answers, is a master and holds data; a person decides what is the truth"
	case GuardLineage:
		return "a person: the two nodes do not share a history"
	case GuardNoLostWrites:
		return "a person: dcshealer heal --instance " + instance + " --live --yes --allow-lost-writes NODE gives them up"
	case GuardNoCycle:
		return "a person: make one node a master first"
	case GuardVersion:
		return "a replica that is not older than its master"
	case GuardAuth:
		return "masterauth and masteruser of the replica"
	case GuardHeadroom:
		return "memory on the master and its host; or full_resync of the policy"
	case GuardIsMaster:
		return "time: it is diagnosed anew"
	case GuardWorthwhile:
		return "another remedy: expired keys are not what fills the memory"
	case GuardLatency:
		return "time: the node has to answer as quickly as in calm times"
	}
	return "see the reason"
}
