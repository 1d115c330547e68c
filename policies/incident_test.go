package policies

import (
	"strings"
	"testing"
	"time"
)

func TestAnIncidentBeganWithTheEarliestThatIsKnown(t *testing.T) {
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		alarmed, seen time.Time
		want          time.Duration
	}{
		"nothing before":           {time.Time{}, time.Time{}, 0},
		"an alarm":                 {at.Add(-3 * time.Second), at.Add(-time.Second), 3 * time.Second},
		"our own look":             {time.Time{}, at.Add(-time.Second), time.Second},
		"an alarm after the first": {at.Add(time.Hour), at.Add(-time.Second), time.Second},
	} {
		in := Incident{Opened: at, Alarmed: tc.alarmed, Seen: tc.seen}
		if got := in.Detected(); got != tc.want {
			t.Errorf("%s: detected after %s, want %s", name, got, tc.want)
		}
	}
}

func TestWhoEndedAnIncident(t *testing.T) {
	replica := Replication{Role: RoleReplica, MasterHost: "10.0.0.1", MasterPort: 6379}
	master := Replication{Role: RoleMaster}
	full := Snapshot{Node: "n", RunID: "a", KeyspaceKnown: true, DBs: []DB{{Keys: 1000}}, Memory: Memory{Max: Known(int64(100))},
		Stats: Stats{ExpiredKeys: Known(int64(5)), EvictedKeys: Known(int64(0))}}
	change := func(f func(*Snapshot)) Snapshot { s := full; f(&s); return s }
	with := func(r Replication) Snapshot { return Snapshot{Node: "n", RunID: "a", Replication: r} }
	for name, tc := range map[string]struct {
		metric   Metric
		was, now Snapshot
		want     Resolution
		words    string
	}{
		"a person's REPLICAOF":     {MetricReplication, with(master), with(replica), ResolvedByOther, "somebody made n a replica of 10.0.0.1:6379; it was a master"},
		"the link came back":       {MetricReplication, with(replica), with(replica), ResolvedByItself, "by itself"},
		"restarted":                {MetricReplication, with(master), Snapshot{Node: "n", RunID: "b", Replication: replica}, ResolvedByOther, "n was restarted"},
		"was not readable":         {MetricReplication, Snapshot{}, with(replica), ResolvedUnknown, "by itself or by a person"},
		"maxmemory raised":         {MetricUsedMemory, full, change(func(s *Snapshot) { s.Memory.Max = Known(int64(200)) }), ResolvedByOther, "maxmemory of n from 100 to 200"},
		"the server expired them":  {MetricUsedMemory, full, change(func(s *Snapshot) { s.DBs, s.Stats.ExpiredKeys = []DB{{Keys: 100}}, Known(int64(905)) }), ResolvedByItself, "expired 900"},
		"clients deleted the most": {MetricUsedMemory, full, change(func(s *Snapshot) { s.DBs, s.Stats.ExpiredKeys = []DB{{Keys: 100}}, Known(int64(10)) }), ResolvedUnknown, "clients deleted most of the 900"},
		"nothing shows":            {MetricUsedMemory, full, full, ResolvedUnknown, "no setting was changed"},
		"counters were reset":      {MetricUsedMemory, full, change(func(s *Snapshot) { s.Stats.ExpiredKeys = Known(int64(0)) }), ResolvedUnknown, "no setting was changed"},
		"another metric":           {MetricInstanceUp, full, full, ResolvedUnknown, "by itself or by a person"},
	} {
		got, text := ResolvedBy(tc.metric, tc.was, tc.now)
		if got != tc.want || !strings.Contains(text, tc.words) {
			t.Errorf("%s: %s, %q; want %s, %q", name, got, text, tc.want, tc.words)
		}
	}
}

// A guard that somebody adds needs its words here too.
func TestEveryGuardSaysWhatLiftsIt(t *testing.T) {
	guards := []Guard{GuardMode, GuardPause, GuardWindow, GuardConfirmed, GuardCapability, GuardIdentity, GuardBreaker, GuardCooldown, GuardBusy, GuardBudget, GuardStorm,
		GuardTilt, GuardManagedElsewhere, GuardTugOfWar, GuardOptIn, GuardPatterns, GuardVictims, GuardMasterSafe, GuardLineage, GuardNoLostWrites, GuardNoCycle, GuardVersion,
		GuardAuth, GuardHeadroom, GuardIsMaster, GuardWorthwhile, GuardLatency}
	for _, r := range CommonGuards(Facts{}) {
		guards = append(guards, r.Guard)
	}
	for _, r := range append(ReattachGuards(ReattachFacts{}), ReclaimGuards(ReclaimFacts{})...) {
		guards = append(guards, r.Guard)
	}
	for _, g := range guards {
		if text := Lift(g, "dcs-prod-01", ReattachReplica); text == "" || text == "see the reason" {
			t.Errorf("%s: %q", g, text)
		}
	}
	if got := Lift(GuardMode, "dcs-prod-01", ReattachReplica); got != "dcshealer live enable dcs-prod-01 --action reattach-replica --for 2h --reason WHY" {
		t.Errorf("mode: %s", got)
	}
}
