package policies

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Facts is what the guards that every action is asked need to know. Each comes from a fresh probe, the journal or the
// config; what is missing denies.
type Facts struct {
	Now      time.Time
	Instance Instance
	Policy   Policy
	Action   Action
	Target   Snapshot // the node that commands will go to
	Planned  Snapshot // the same node when the plan was made; at planning time the same snapshot
	Evidence []Snapshot
	Agreed   bool // two probes of the healer agree on the fault and its cause

	Mode       Mode
	ModeReason string
	Paused     string // why acting is paused; empty: not
	ControlErr error  // live, pause or journal could not be read
	JournalErr string // why the journal cannot be written; empty: it can, or nobody tried

	FaultSince   time.Time // when the healer's own probe first saw the fault; zero: unknown
	LastFinished time.Time // of the newest live action of this kind here; zero: none
	Undone       int       // repairs of this node in the last hour that succeeded: the fault is back

	Breaker      string // closed, open or half-open; empty: unknown
	FleetBreaker string

	Running       int // live actions under way in the fleet, this one left out
	RunningSame   int // those of this kind
	RunningHere   string
	FullResyncs   int // full resyncs that we started, under way
	MaxRunning    int
	MaxFull       int
	OtherTrouble  int // other instances confirmed critical or unreachable
	OthersUnknown int // other instances that nobody has looked at
	Others        int
	Storm         Percent
	Tilt          string // why the own clock or loop is not to be trusted; empty: it is
	Commands      []string
	SentinelNodes []Snapshot // the nodes whose CLIENT LIST was read
}

// CommonGuards asks the guards that every action is asked, in the order in which a person wants to read them.
func CommonGuards(f Facts) []Ruling {
	return []Ruling{
		Rule(GuardMode, f.mode()),
		Rule(GuardPause, f.pause()),
		Rule(GuardWindow, f.window()),
		Rule(GuardConfirmed, f.confirmed()),
		Rule(GuardCapability, f.capability()),
		Rule(GuardIdentity, f.identity()),
		Rule(GuardBreaker, f.breaker()),
		Rule(GuardCooldown, f.cooldown()),
		Rule(GuardBudget, f.budget()),
		Rule(GuardStorm, f.storm()),
		Rule(GuardTilt, f.tilt()),
		Rule(GuardManagedElsewhere, f.managedElsewhere()),
		Rule(GuardTugOfWar, f.tugOfWar()),
	}
}

func allow(format string, a ...any) Verdict {
	return Verdict{Allow: true, Reason: fmt.Sprintf(format, a...)}
}
func deny(format string, a ...any) Verdict { return Verdict{Reason: fmt.Sprintf(format, a...)} }
func hold(format string, a ...any) Verdict {
	return Verdict{Temporary: true, Reason: fmt.Sprintf(format, a...)}
}

func (f Facts) mode() Verdict {
	switch {
	case f.ControlErr != nil:
		return hold("the runtime settings cannot be read (%v): nothing runs live until they can", f.ControlErr)
	case f.Mode == Live:
		return allow("live: %s", f.ModeReason)
	}
	return hold("%s", cmpOr(f.ModeReason, "dry run"))
}

// optIn: a step of the ladder is planned only where the instance names it.
func (f Facts) optIn() Verdict {
	if !slices.Contains(f.Instance.Ladder, f.Action) {
		return hold("%s has not opted into it: add %s to ladder of the instance", f.Instance.Name, f.Action)
	}
	return allow("%s opted into it", f.Instance.Name)
}

func (f Facts) pause() Verdict {
	switch {
	case f.ControlErr != nil:
		return hold("the pauses cannot be read: %v", f.ControlErr)
	case f.JournalErr != "":
		return hold("the journal cannot be written, and nothing is done without a record: %s", f.JournalErr)
	case f.Paused != "":
		return hold("paused: %s", f.Paused)
	}
	return allow("not paused")
}

func (f Facts) window() Verdict {
	if len(f.Policy.Windows) == 0 {
		return allow("no windows are set: acting is allowed at any time")
	}
	for _, w := range f.Policy.Windows {
		if w.Open(f.Now) {
			return allow("inside the window %q for %s", w.Cron, w.Duration)
		}
	}
	return hold("outside every window of the policy; the next opens at %s", f.nextWindow())
}

func (f Facts) nextWindow() string {
	var next time.Time
	for _, w := range f.Policy.Windows {
		if w.Next == nil {
			continue
		}
		if t := w.Next(f.Now); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		return "no time: correct the windows of the policy"
	}
	return next.UTC().Format(time.RFC3339)
}

func (f Facts) confirmed() Verdict {
	if !f.Agreed {
		return hold("two probes in a row do not agree on the fault yet")
	}
	if len(f.Evidence) == 0 {
		return deny("no probe of our own stands behind this")
	}
	for _, s := range f.Evidence {
		if age := s.Age(f.Now); age > MaxEvidenceAge || age < -time.Second {
			return hold("the probe of %s is %s old, at most %s counts", s.Node, age.Round(time.Millisecond), MaxEvidenceAge)
		}
	}
	return allow("two probes agree, the oldest evidence is %s old", f.oldest().Round(time.Millisecond))
}

func (f Facts) oldest() (age time.Duration) {
	for _, s := range f.Evidence {
		age = max(age, s.Age(f.Now))
	}
	return age
}

func (f Facts) capability() Verdict {
	t := f.Target
	switch {
	case !t.Cluster.Known:
		return deny("%s does not say whether cluster mode is on", t.Node)
	case t.Cluster.V:
		return deny("%s runs in cluster mode, which is not supported: Redis refuses REPLICAOF there", t.Node)
	case !t.CommandsKnown:
		return deny("%s did not tell which commands it has: grant +command to the user", t.Node)
	}
	for _, c := range f.Commands {
		if slices.Contains(t.Renamed, c) {
			return deny("%s does not know %s: it is renamed or forbidden there; where it is renamed, put its name under renamed_commands of %s", t.Node, f.Instance.Renamed.Shown(c), f.Instance.Name)
		}
	}
	names := make([]string, len(f.Commands))
	for i, c := range f.Commands {
		names[i] = f.Instance.Renamed.Shown(c)
	}
	return allow("%s knows %s; cluster mode is off", t.Node, strings.Join(names, ", "))
}

func (f Facts) identity() Verdict {
	t, p := f.Target, f.Planned
	switch {
	case t.RunID == "" || p.RunID == "":
		return deny("%s did not tell its run id", t.Node)
	case t.RunID != p.RunID:
		return deny("%s restarted since the diagnosis (run id %s, was %s): it will be diagnosed anew", t.Node, short(t.RunID), short(p.RunID))
	case t.Replication.Role != p.Replication.Role || t.Replication.Role == "":
		return deny("%s is a %s now and was a %s when diagnosed: it will be diagnosed anew", t.Node, t.Replication.Role, p.Replication.Role)
	}
	return allow("%s is still the %s that was diagnosed (run id %s)", t.Node, t.Replication.Role, short(t.RunID))
}

var breakerStates = []string{"closed", "open", "half-open"}

func (f Facts) breaker() Verdict {
	switch {
	case f.Breaker == "" || f.FleetBreaker == "":
		return hold("the breaker's state cannot be read")
	case !slices.Contains(breakerStates, f.Breaker) || !slices.Contains(breakerStates, f.FleetBreaker):
		return hold("the breaker is in a state that is not known (%s, of the fleet %s)", f.Breaker, f.FleetBreaker)
	case f.Breaker == "open":
		return hold("%s on %s failed or did not help three times in a row; one trial follows 10 min after the last", f.Action, f.Instance.Name)
	case (f.Breaker == "half-open" || f.FleetBreaker == "half-open") && f.RunningSame > 0:
		return hold("the breaker lets one trial through, and another %s is under way", f.Action)
	case f.FleetBreaker == "open":
		return hold("%s failed across the fleet three times in a row; one trial follows 10 min after the last", f.Action)
	}
	return allow("breaker %s, of the fleet %s", f.Breaker, f.FleetBreaker)
}

func (f Facts) cooldown() Verdict {
	rest := f.Policy.Cooldown(f.Action)
	if f.LastFinished.IsZero() {
		return allow("no action to rest from")
	}
	if left := f.LastFinished.Add(rest).Sub(f.Now); left > 0 {
		return hold("the last %s here ended at %s; the cooldown of %s ends in %s", f.Action, f.LastFinished.UTC().Format(time.TimeOnly), rest, left.Round(time.Second))
	}
	return allow("the cooldown of %s is over", rest)
}

func (f Facts) budget() Verdict {
	switch {
	case f.RunningHere != "":
		return hold("another action runs on this instance: %s", f.RunningHere)
	case f.Running >= f.MaxRunning:
		return hold("%d actions run in the fleet, budget.concurrent_actions is %d", f.Running, f.MaxRunning)
	}
	return allow("%d of %d actions run in the fleet", f.Running, f.MaxRunning)
}

func (f Facts) storm() Verdict {
	if f.OtherTrouble >= StormFloor && float64(f.OtherTrouble)*100 >= float64(f.Storm)*float64(f.Others) {
		return hold("%d of the %d other instances are in trouble at once (budget.storm is %g%%): this looks like a fault of the network or of us; look before acting", f.OtherTrouble, f.Others, float64(f.Storm))
	}
	if perhaps := f.OtherTrouble + f.OthersUnknown; f.OthersUnknown > 0 && perhaps >= StormFloor && float64(perhaps)*100 >= float64(f.Storm)*float64(f.Others) {
		return hold("%d of the %d other instances have not been seen yet: whether much of the fleet is in trouble is not known", f.OthersUnknown, f.Others)
	}
	return allow("%d of %d other instances are in trouble", f.OtherTrouble, f.Others)
}

func (f Facts) tilt() Verdict {
	if f.Tilt != "" {
		return hold("%s: our own view is not trusted for a while", f.Tilt)
	}
	return allow("own loop and clock are steady")
}

// managedElsewhere gives the other controller its time first. Sentinel shows by its connections (names sentinel-<hex>-cmd and
// -pubsub in CLIENT LIST) even where the config says nobody else manages the instance.
func (f Facts) managedElsewhere() Verdict {
	by := string(f.Instance.ManagedBy)
	if f.Action == ReattachReplica && len(f.SentinelNodes) == 0 {
		return deny("no node of %s showed its clients, so a Sentinel cannot be ruled out", f.Instance.Name)
	}
	for _, s := range f.SentinelNodes {
		if !s.SentinelSeen.Known && !s.Reach.Answers() {
			return deny("%s cannot be reached (%s), so a Sentinel cannot be ruled out", s.Node, s.Reach)
		}
		if !s.SentinelSeen.Known {
			return deny("%s did not show its clients, so a Sentinel cannot be ruled out: grant +client|list to the user", s.Node)
		}
		if s.SentinelSeen.V && (f.Instance.ManagedBy == ManagedByNone || f.Instance.ManagedBy == "") {
			return deny("a Sentinel is connected to %s although managed_by is none: set managed_by: sentinel for %s", s.Node, f.Instance.Name)
		}
	}
	grace := max(f.Policy.Reattach.Grace, f.Policy.Replication.CriticalAfter)
	if f.Instance.ManagedBy != ManagedByNone && f.Instance.ManagedBy != "" {
		grace = max(grace, ManagedGrace)
	} else {
		by = "nobody else"
	}
	if f.Action != ReattachReplica || grace == 0 {
		return allow("managed by %s", by)
	}
	if f.FaultSince.IsZero() {
		return hold("managed by %s: the fault must stand for %s and its beginning is not known", by, grace)
	}
	if left := f.FaultSince.Add(grace).Sub(f.Now); left > 0 {
		return hold("managed by %s: the fault must stand for %s, %s are left", by, grace, left.Round(time.Second))
	}
	return allow("managed by %s, and the grace of %s is over", by, grace)
}

func (f Facts) tugOfWar() Verdict {
	limit := f.Policy.Reattach.Undone
	if f.Action != ReattachReplica || limit == 0 {
		return allow("not counted")
	}
	if f.Undone >= limit {
		return deny("our repair of %s was undone %d times within an hour: something else changes it back; find it, or set remediation.reattach-replica.undone", f.Target.Node, f.Undone)
	}
	return allow("undone %d times within an hour, the limit is %d", f.Undone, limit)
}

func cmpOr(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
