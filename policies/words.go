package policies

// States lists all that a Machine can be in.
var States = [...]State{StateIdle, StateConfirming, StatePlanning, StateHeld, StateActing, StateVerifying, StateCooldown, StateEscalated}

// Outcomes lists all of a journal record.
var Outcomes = [...]Outcome{OutcomeRunning, OutcomePlanned, OutcomeDenied, OutcomeSucceeded, OutcomeIneffective, OutcomeFailed, OutcomeInterrupted, OutcomeUnsupported}

// Guards lists all, those that every action is asked first.
var Guards = [...]Guard{
	GuardMode, GuardPause, GuardWindow, GuardConfirmed, GuardCapability, GuardIdentity, GuardBreaker, GuardCooldown, GuardBusy, GuardBudget,
	GuardStorm, GuardTilt, GuardManagedElsewhere, GuardTugOfWar, GuardOptIn, GuardPatterns, GuardVictims,
	GuardMasterSafe, GuardLineage, GuardNoLostWrites, GuardNoCycle, GuardVersion, GuardAuth, GuardHeadroom, GuardIsMaster, GuardWorthwhile, GuardLatency,
}
