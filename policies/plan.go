package policies

import "time"

// Action is one remedy.
type Action string

// The actions. The last three are steps of the ladder: what is tried where the first does not help, each opted into by the instance.
const (
	ReclaimExpired  Action = "reclaim-expired"
	ReattachReplica Action = "reattach-replica"
	PurgeMemory     Action = "purge-memory"
	EvictNearExpiry Action = "evict-near-expiry"
	KillIdleClients Action = "kill-idle-clients"
)

// Actions lists all.
var Actions = [...]Action{ReclaimExpired, ReattachReplica, PurgeMemory, EvictNearExpiry, KillIdleClients}

// LadderSteps lists those that an instance has to opt into.
var LadderSteps = [...]Action{PurgeMemory, EvictNearExpiry, KillIdleClients}

// Mode says whether an action's last write is sent. The zero value is dry run's.
type Mode string

// The two modes.
const (
	DryRun Mode = "dry-run"
	Live   Mode = "live"
)

// Cause says why, as confirmed by the healer's own probe.
type Cause string

// Causes of memory findings.
const (
	CauseExpiredKeys        Cause = "expired-keys"
	CauseDataWithTTL        Cause = "data-with-ttl"
	CauseDataWithoutTTL     Cause = "data-without-ttl"
	CauseClientBuffers      Cause = "client-buffers"
	CauseReplicationBuffers Cause = "replication-buffers"
	CauseFragmentation      Cause = "fragmentation"
	CauseOverhead           Cause = "overhead"
)

// Causes of replication findings.
const (
	CausePromoted           Cause = "promoted"
	CausePromotedWithWrites Cause = "promoted-with-writes"
	CauseWrongMaster        Cause = "wrong-master"
	CauseChained            Cause = "chained"
	CauseNetwork            Cause = "network"
	CauseAuth               Cause = "auth"
	CauseTLS                Cause = "tls"
	CauseStuckLink          Cause = "stuck-link"
	CauseLoading            Cause = "loading"
	CauseSyncing            Cause = "syncing"
	CauseResyncLoop         Cause = "resync-loop"
	CauseLoadFailed         Cause = "load-failed"
	CauseMasterDown         Cause = "master-down"
	CauseMasterEmpty        Cause = "master-empty"
	CauseSwitchedOver       Cause = "switched-over"
	CauseTwoMasters         Cause = "two-masters"
	CauseSameNode           Cause = "same-node"
	CauseCycle              Cause = "cycle"
	CauseNodeDown           Cause = "node-down"
	CauseNodeHung           Cause = "node-hung"
)

// Guard names one reason not to act.
type Guard string

// Guards that every action is asked.
const (
	GuardMode             Guard = "mode"
	GuardPause            Guard = "pause"
	GuardWindow           Guard = "window"
	GuardConfirmed        Guard = "confirmed"
	GuardCapability       Guard = "capability"
	GuardIdentity         Guard = "identity"
	GuardBreaker          Guard = "breaker"
	GuardCooldown         Guard = "cooldown"
	GuardBusy             Guard = "busy"
	GuardBudget           Guard = "budget"
	GuardStorm            Guard = "storm"
	GuardTilt             Guard = "tilt"
	GuardManagedElsewhere Guard = "managed-elsewhere"
	GuardTugOfWar         Guard = "tug-of-war"
)

// GuardOptIn asks every step of the ladder whether the instance opted into it.
const GuardOptIn Guard = "opt-in"

// Guards of evict-near-expiry and kill-idle-clients.
const (
	GuardPatterns Guard = "patterns" // something is allowed at all
	GuardVictims  Guard = "victims"  // there are keys or clients that may go, and they are enough
)

// Guards of reattach-replica.
const (
	GuardMasterSafe   Guard = "master-safe"
	GuardLineage      Guard = "lineage"
	GuardNoLostWrites Guard = "no-lost-writes"
	GuardNoCycle      Guard = "no-cycle"
	GuardVersion      Guard = "version"
	GuardAuth         Guard = "auth"
	GuardHeadroom     Guard = "headroom"
)

// Guards of reclaim-expired.
const (
	GuardIsMaster   Guard = "is-master"
	GuardWorthwhile Guard = "worthwhile"
	GuardLatency    Guard = "latency"
)

// Verdict is a guard's answer. The zero value denies.
type Verdict struct {
	Allow     bool
	Temporary bool   // a denial that time or a setting lifts: the plan is held, no person is needed
	Reason    string // what was seen; of a denial also the setting or command that lifts it
}

// Ruling is one guard's verdict, as plans and the journal show it.
type Ruling struct {
	Guard     Guard  `json:"guard"`
	Verdict   string `json:"verdict"` // allow or deny
	Reason    string `json:"reason"`
	Temporary bool   `json:"temporary,omitempty"`
}

// Denied reports whether the ruling stops the action. Anything but an explicit allow does.
func (r Ruling) Denied() bool { return r.Verdict != "allow" }

// Rule turns a verdict into a ruling. A verdict without a reason says so: no answer is a deny.
func Rule(g Guard, v Verdict) Ruling {
	r := Ruling{Guard: g, Verdict: "deny", Reason: v.Reason, Temporary: v.Temporary && !v.Allow}
	if v.Allow {
		r.Verdict = "allow"
	}
	if r.Reason == "" {
		r.Reason = "the guard gave no reason"
	}
	return r
}

// Plan is one action against one node with its exact commands and expected effect.
type Plan struct {
	Action    Action     `json:"action"`
	Node      string     `json:"node"`
	Mode      Mode       `json:"mode"`
	Cause     Cause      `json:"cause"`
	Commands  [][]string `json:"commands"` // for the sweep: the form of one step
	Permitted bool       `json:"permitted"`
	DeniedBy  []Guard    `json:"denied_by"`
	Guards    []Ruling   `json:"guards"`
	Expect    Expect     `json:"expect"`

	Memory *MemoryReport `json:"memory,omitempty"` // where the memory of a full master is
}

// Decide fills Permitted and DeniedBy from Guards. A plan without rulings is not permitted.
func (p *Plan) Decide() {
	p.DeniedBy = []Guard{}
	for _, r := range p.Guards {
		if r.Denied() {
			p.DeniedBy = append(p.DeniedBy, r.Guard)
		}
	}
	p.Permitted = len(p.Guards) > 0 && len(p.DeniedBy) == 0
}

// Held reports whether the plan is denied only for reasons that time or a setting lifts.
func (p Plan) Held() bool {
	for _, r := range p.Guards {
		if r.Denied() && !r.Temporary {
			return false
		}
	}
	return !p.Permitted && len(p.Guards) > 0
}

// Expect is the effect that a plan predicts.
type Expect struct {
	ExpiredKeys Opt[int64] `json:"expired_keys,omitzero"` // the sweep: expired keys to be deleted
	Bytes       Opt[int64] `json:"bytes,omitzero"`        // the sweep: bytes to come free; reattachment: bytes to transfer
	Clients     Opt[int64] `json:"clients,omitzero"`      // kill-idle-clients: clients to be closed
	Known       *bool      `json:"known,omitempty"`       // the sweep: false when it is not known without acting
	Method      string     `json:"method,omitempty"`      // how the estimate was made; figures are "about"
	Resync      Resync     `json:"resync,omitempty"`      // reattachment
}

// Resync is the kind of copy that a reattachment needs.
type Resync string

// The two kinds.
const (
	ResyncPartial Resync = "partial"
	ResyncFull    Resync = "full"
)

// Outcome is what came of a decision.
type Outcome string

// All outcomes of a journal record.
const (
	OutcomeRunning     Outcome = "running"
	OutcomePlanned     Outcome = "planned" // only the mode guard denied
	OutcomeDenied      Outcome = "denied"  // another guard did
	OutcomeSucceeded   Outcome = "succeeded"
	OutcomeIneffective Outcome = "ineffective"
	OutcomeFailed      Outcome = "failed"
	OutcomeInterrupted Outcome = "interrupted"
	OutcomeUnsupported Outcome = "unsupported"
)

// State is a Machine's state.
type State string

// The states of a Machine.
const (
	StateIdle       State = "idle"
	StateConfirming State = "confirming"
	StatePlanning   State = "planning"
	StateHeld       State = "held"
	StateActing     State = "acting"
	StateVerifying  State = "verifying"
	StateCooldown   State = "cooldown"
	StateEscalated  State = "escalated"
)

// MaxEvidenceAge is how old a probe may be that a guard believes.
const MaxEvidenceAge = 5 * time.Second
