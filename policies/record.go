package policies

import (
	"fmt"
	"slices"
	"time"
)

// Record is one journal record: the join of its append-only entries (intent, result, later notes).
type Record struct {
	ID       string          `json:"id"` // ULID
	Incident string          `json:"incident"`
	Alarm    string          `json:"alarm"` // id of the alarm that led here; empty by hand or when it had none
	Instance string          `json:"instance"`
	Node     string          `json:"node"`
	Action   Action          `json:"action"` // empty: a fault that no action cures, reported and escalated
	Mode     Mode            `json:"mode"`
	Trigger  Trigger         `json:"trigger"`
	At       time.Time       `json:"at"`
	Finished time.Time       `json:"finished,omitzero"`
	Outcome  Outcome         `json:"outcome"`
	Metric   Metric          `json:"metric,omitempty"`
	Cause    Cause           `json:"cause"`
	Guards   []Ruling        `json:"guards"`
	DeniedBy []Guard         `json:"denied_by"`
	Planned  [][]string      `json:"planned,omitempty"` // the exact commands that the plan holds
	Expect   Expect          `json:"expect,omitzero"`
	Commands []CommandRecord `json:"commands"` // what was sent
	Before   map[string]any  `json:"before,omitempty"`
	After    map[string]any  `json:"after,omitempty"`
	Effect   map[string]any  `json:"effect,omitempty"`
	Error    string          `json:"error,omitempty"`
	Notes    []Note          `json:"notes,omitempty"`
	Operator Operator        `json:"operator"`
	Prev     string          `json:"prev"` // hash of the entry before the record's last one in the whole journal
	Hash     string          `json:"hash"` // of the record's last entry
}

// Trigger says what led to a decision.
type Trigger string

// The two triggers.
const (
	TriggerAlarm  Trigger = "alarm"
	TriggerManual Trigger = "manual"
)

// CommandRecord is one command as the connection sent it; Args never hold a secret. The calls of a sweep are one
// record with a Count: its Reply and Took are sums, Longest the longest call.
type CommandRecord struct {
	Args    []string      `json:"args"`
	Reply   string        `json:"reply"`
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"-"`
	TookS   float64       `json:"took"` // seconds
	Node    string        `json:"node,omitempty"`
	Count   int64         `json:"count,omitempty"`
	Longest float64       `json:"longest,omitempty"` // seconds
}

// Note is an observation added to a record later.
type Note struct {
	At   time.Time      `json:"at"`
	Text string         `json:"text"`
	Data map[string]any `json:"data,omitempty"`
}

// Operator is the process that decided.
type Operator struct {
	Host    string `json:"host"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	By      string `json:"by,omitempty"` // the person, of a manual trigger
}

// Actions lists the actions that can be planned for the instance: the two that every instance has, and the steps that it opted into.
func (i Instance) Actions() []Action {
	out := []Action{ReclaimExpired, ReattachReplica}
	for _, a := range LadderSteps {
		if slices.Contains(i.Ladder, a) {
			out = append(out, a)
		}
	}
	return out
}

// LiveGrant is a runtime opt-in to live repair of one instance and action.
type LiveGrant struct {
	Instance string    `json:"instance"`
	Action   Action    `json:"action"`
	Enabled  bool      `json:"enabled"`        // false: a person switched it off, which beats the config's live
	Until    time.Time `json:"until,omitzero"` // zero: no end
	Reason   string    `json:"reason"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// aheadBy is how far ahead of the reader's clock a grant may have been given: two readings of one clock are not in order.
const aheadBy = time.Minute

// Standing reports whether the grant still says something at now. One that ends and was given at a time that has not come is none: by a
// clock that was set back it would last for longer than a person said.
func (g LiveGrant) Standing(now time.Time) bool {
	if g.Until.IsZero() {
		return true
	}
	return now.Before(g.Until) && !(g.Enabled && g.At.Sub(now) > aheadBy)
}

// ModeOf is the mode of one instance and action: dryRun (run --dry-run) beats everything, then a standing grant or
// revocation, then the config. The reason names what decided and what would change it.
func ModeOf(i Instance, a Action, grants []LiveGrant, dryRun bool, now time.Time) (Mode, string) {
	enable := "dcshealer live enable " + i.Name + " --action " + string(a) + " --for 2h --reason WHY"
	if dryRun {
		return DryRun, "this run was started with --dry-run, which beats every live setting; start it without"
	}
	for _, g := range grants {
		if g.Instance != i.Name || g.Action != a || !g.Standing(now) {
			continue
		}
		if !g.Enabled {
			return DryRun, "switched off by " + g.By + " (" + g.Reason + "); lift it with: " + enable
		}
		if g.Until.IsZero() {
			return Live, "enabled by " + g.By + " (" + g.Reason + ")"
		}
		return Live, "enabled by " + g.By + " until " + g.Until.UTC().Format(time.RFC3339) + " (" + g.Reason + ")"
	}
	if i.ConfiguredLive(a) {
		return Live, "live in the config"
	}
	return DryRun, "dry run: enable with: " + enable
}

// MachineStatus is what a healer says of one instance, kept for status when it is not running.
type MachineStatus struct {
	Instance   string            `json:"instance"`
	State      State             `json:"state"`
	Since      time.Time         `json:"since"`
	Incidents  []string          `json:"incidents"`
	Modes      map[Action]Mode   `json:"modes"`
	Breakers   map[Action]string `json:"breakers"`
	Paused     bool              `json:"paused"`
	LastAction *LastAction       `json:"last_action"`
	Progress   *Progress         `json:"progress,omitempty"` // of the action under way
	DryRun     bool              `json:"dry_run,omitempty"`  // the healer was started with --dry-run
	// Stands is since when the fault of each open incident is known to have been there without a break.
	Stands map[string]time.Time `json:"stands,omitempty"`
	Blind  string               `json:"blind,omitempty"` // an alarm that cannot fire here, and why
}

// LastAction is the newest action of an instance that was sent.
type LastAction struct {
	ID      string    `json:"id"`
	Action  Action    `json:"action"`
	Node    string    `json:"node"`
	Outcome Outcome   `json:"outcome"`
	At      time.Time `json:"at"`
}

// Progress is how far an action under way has come.
type Progress struct {
	Action  Action    `json:"action"`
	Node    string    `json:"node"`
	Record  string    `json:"record"`
	At      time.Time `json:"at"`
	Keys    int64     `json:"keys"`  // deleted
	Bytes   int64     `json:"bytes"` // freed
	Visited int64     `json:"visited"`
	Of      int64     `json:"of"`    // keys to visit, about
	Share   float64   `json:"share"` // of maxmemory, in hundredths
}

// String is one line for a person.
func (p Progress) String() string {
	return fmt.Sprintf("%s on %s: %d of about %d keys visited, %d deleted, %.1f MiB freed, memory at %.1f %%", p.Action, p.Node, p.Visited, p.Of, p.Keys, float64(p.Bytes)/(1<<20), p.Share)
}

// NodeMemory is our own durable record of what a node last was, followed and held: after a restart a server
// forgets, and only this can tell whether history was lost.
type NodeMemory struct {
	Instance string     `json:"instance"`
	Node     string     `json:"node"`
	Address  Address    `json:"address,omitzero"` // at which we reached it
	At       time.Time  `json:"at"`
	RunID    string     `json:"run_id"`
	Role     Role       `json:"role"`
	ReplID   ReplID     `json:"replid"`
	ReplID2  ReplID     `json:"replid2"`
	Offset   int64      `json:"offset"`
	Keys     int64      `json:"keys"`
	Followed Followed   `json:"followed,omitzero"`  // the history that it last had its link up to, as a replica
	Alone    Alone      `json:"alone,omitzero"`     // as a promoted master that had added nothing yet
	SaveSeen time.Time  `json:"save_seen,omitzero"` // since when rdb_last_save_time has been LastSave
	LastSave Opt[int64] `json:"last_save,omitzero"`
	Writable time.Time  `json:"writable,omitzero"` // when it was last seen as a replica that takes writes (replica-read-only no); zero: never
}

// Alone is a promoted node whose history had not grown yet.
type Alone struct {
	ReplID ReplID     `json:"replid"`
	Writes WriteCount `json:"writes,omitzero"`
}

// Followed is a history that a replica followed, and how far it had come.
type Followed struct {
	ReplID ReplID    `json:"replid"`
	Offset int64     `json:"offset"`
	At     time.Time `json:"at"`
	Master Address   `json:"master,omitzero"`  // as the replica knew its master
	RunID  string    `json:"run_id,omitempty"` // of the replica

	// Replicas are those that the replica itself had then, as it shows them.
	Replicas []Address `json:"replicas,omitempty"`

	Writes   WriteCount      `json:"writes,omitzero"`
	Settings ReplicaSettings `json:"settings,omitzero"`
}

// WriteCount is how many changes a run of a server had counted when it was looked at. A save sets the count back.
type WriteCount struct {
	RunID    string     `json:"run_id,omitempty"`
	Changes  Opt[int64] `json:"changes,omitzero"`   // rdb_changes_since_last_save
	LastSave Opt[int64] `json:"last_save,omitzero"` // rdb_last_save_time, in seconds
	Saves    Opt[int64] `json:"saves,omitzero"`     // rdb_saves, 7.0 and later
	// Settled is how long, by our clock, LastSave had been seen when this was read: within a second of it another save would not show.
	Settled time.Duration `json:"settled,omitempty"`
}

// ReplicaSettings are the settings of a replica that a repair must not cost it. The password of masterauth is never kept.
type ReplicaSettings struct {
	MasterAuth Opt[bool]   `json:"masterauth_set,omitzero"`
	MasterUser Opt[string] `json:"masteruser,omitzero"`
	ReadOnly   Opt[bool]   `json:"replica_read_only,omitzero"`
	Priority   Opt[int64]  `json:"replica_priority,omitzero"`
}
