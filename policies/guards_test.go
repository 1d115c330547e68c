package policies

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// healthyFacts are common facts that every common guard allows.
func healthyFacts() Facts { return factsOf(newTrio()) }

func factsOf(tr *trio) Facts {
	p := PresetDefault()
	return Facts{
		Now: noon, Instance: tr.in, Policy: p, Action: ReattachReplica, Target: tr.x, Planned: tr.x,
		Evidence: []Snapshot{tr.x, tr.m}, Agreed: true, Mode: Live, ModeReason: "live in the config",
		FaultSince: noon.Add(-2 * time.Second), Breaker: "closed", FleetBreaker: "closed",
		MaxRunning: 2, MaxFull: 2, Others: 9, Storm: 30, Commands: []string{"replicaof"}, SentinelNodes: []Snapshot{tr.x, tr.m},
	}
}

func rulingOf(rs []Ruling, g Guard) Ruling {
	i := slices.IndexFunc(rs, func(r Ruling) bool { return r.Guard == g })
	if i < 0 {
		return Ruling{Guard: g, Verdict: "not asked"}
	}
	return rs[i]
}

// denied writes who denied: "mode" for good, "mode?" for a while.
func denied(rs []Ruling) string {
	var names []string
	for _, r := range rs {
		if r.Denied() && r.Temporary {
			names = append(names, string(r.Guard)+"?")
		} else if r.Denied() {
			names = append(names, string(r.Guard))
		}
	}
	return strings.Join(names, " ")
}

// checkRulings holds what is true of every ruling, whatever was asked: no guard is asked twice, each gives a reason, and
// no text shows a verb of fmt that found no value.
func checkRulings(t *testing.T, rs []Ruling) {
	t.Helper()
	seen := map[Guard]bool{}
	for _, r := range rs {
		if seen[r.Guard] {
			t.Errorf("guard %s is asked twice", r.Guard)
		}
		seen[r.Guard] = true
		if r.Reason == "" || r.Reason == "the guard gave no reason" || strings.Contains(r.Reason, "%!") {
			t.Errorf("guard %s: reason %q", r.Guard, r.Reason)
		}
		if r.Verdict != "allow" && r.Verdict != "deny" || r.Verdict == "allow" && r.Temporary {
			t.Errorf("guard %s: %+v", r.Guard, r)
		}
	}
}

func TestCommonGuards(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Facts)
		want   string // who denies
		reason string // in the denial's reason: the node or the setting
	}{
		{"all is well", func(*Facts) {}, "", ""},

		{"dry run", func(f *Facts) { f.Mode, f.ModeReason = DryRun, "dry run: enable with: dcshealer live enable" }, "mode?", "dcshealer live enable"},
		{"no mode", func(f *Facts) { f.Mode, f.ModeReason = "", "" }, "mode?", "dry run"},
		{"the controls cannot be read", func(f *Facts) { f.ControlErr = errors.New("disk full") }, "mode? pause?", "disk full"},
		{"paused", func(f *Facts) { f.Paused = "maintenance (by ann)" }, "pause?", "maintenance (by ann)"},
		{"outside the windows", func(f *Facts) { f.Policy.Windows = []Window{nightly(time.Hour)} }, "window?", "2026-03-05T02:00:00Z"},

		{"probes do not agree", func(f *Facts) { f.Agreed = false }, "confirmed?", "two probes"},
		{"no evidence", func(f *Facts) { f.Evidence = nil }, "confirmed", "no probe"},
		{"evidence of exactly the age allowed", func(f *Facts) { f.Evidence[1].At = noon.Add(-MaxEvidenceAge) }, "", ""},
		{"evidence older", func(f *Facts) { f.Evidence[1].At = noon.Add(-MaxEvidenceAge - 1) }, "confirmed?", "node-m"},
		{"evidence without a time", func(f *Facts) { f.Evidence[0].At = time.Time{} }, "confirmed?", "node-x"},
		{"evidence from the future: a clock stepped", func(f *Facts) { f.Evidence[0].At = noon.Add(time.Second + 1) }, "confirmed?", "node-x"},

		{"cluster mode", func(f *Facts) { f.Target.Cluster = Known(true) }, "capability", "node-x"},
		{"cluster mode not known", func(f *Facts) { f.Target.Cluster = Opt[bool]{} }, "capability", "node-x"},
		{"commands not known", func(f *Facts) { f.Target.CommandsKnown = false }, "capability", "+command"},
		{"the command is renamed", func(f *Facts) { f.Target.Renamed = []string{"config", "replicaof"} }, "capability", "REPLICAOF"},
		{"another command is renamed", func(f *Facts) { f.Target.Renamed = []string{"config"} }, "", ""},
		{"the second of two commands is renamed", func(f *Facts) { f.Commands = []string{"scan", "select"}; f.Target.Renamed = []string{"select"} }, "capability", "SELECT"},

		{"restarted since the diagnosis", func(f *Facts) { f.Planned.RunID = "run-before" }, "identity", "node-x restarted"},
		{"role changed since the diagnosis", func(f *Facts) { f.Planned.Replication.Role = RoleMaster }, "identity", "node-x is a replica now and was a master"},
		{"no run id", func(f *Facts) { f.Target.RunID = "" }, "identity", "node-x"},
		{"no run id then", func(f *Facts) { f.Planned.RunID = "" }, "identity", "node-x"},
		{"no role", func(f *Facts) { f.Target.Replication.Role, f.Planned.Replication.Role = "", "" }, "identity", "node-x"},

		{"breaker open", func(f *Facts) { f.Breaker = "open" }, "breaker?", "dcs-1"},
		{"fleet breaker open", func(f *Facts) { f.FleetBreaker = "open" }, "breaker?", "fleet"},
		{"half-open gives one trial", func(f *Facts) { f.Breaker, f.FleetBreaker = "half-open", "half-open" }, "", ""},
		{"breaker not known", func(f *Facts) { f.Breaker = "" }, "breaker?", "cannot be read"},
		{"fleet breaker not known", func(f *Facts) { f.FleetBreaker = "" }, "breaker?", "cannot be read"},
		{"breaker in a state that nobody knows", func(f *Facts) { f.Breaker = "unknown state: 7" }, "breaker?", "breaker"},

		{"in the cooldown", func(f *Facts) { f.LastFinished = noon.Add(-time.Minute + 1) }, "cooldown?", "cooldown of 1m"},
		{"the cooldown is just over", func(f *Facts) { f.LastFinished = noon.Add(-time.Minute) }, "", ""},
		{"the last action ended in the future: a clock stepped", func(f *Facts) { f.LastFinished = noon.Add(time.Hour) }, "cooldown?", "cooldown"},
		{"the sweep has a cooldown of its own", func(f *Facts) { f.Action, f.LastFinished = ReclaimExpired, noon.Add(-14*time.Minute) }, "cooldown?", "reclaim-expired"},

		{"another action runs here", func(f *Facts) { f.RunningHere = "reclaim-expired 01ABC" }, "budget?", "01ABC"},
		{"one below the budget", func(f *Facts) { f.Running = 1 }, "", ""},
		{"budget used up", func(f *Facts) { f.Running = 2 }, "budget?", "budget.concurrent_actions"},
		{"budget not known", func(f *Facts) { f.MaxRunning = 0 }, "budget?", "budget.concurrent_actions"},

		{"a third of the others in trouble", func(f *Facts) { f.OtherTrouble = 3 }, "storm?", "budget.storm"},
		{"exactly the share", func(f *Facts) { f.OtherTrouble, f.Others = 3, 10 }, "storm?", "budget.storm"},
		{"just below the share", func(f *Facts) { f.OtherTrouble, f.Others = 3, 11 }, "", ""},
		{"fewer than three never make a storm", func(f *Facts) { f.OtherTrouble, f.Others = 2, 2 }, "", ""},
		{"a share that is not known", func(f *Facts) { f.OtherTrouble, f.Storm = 3, 0 }, "storm?", "budget.storm"},
		{"own stall", func(f *Facts) { f.Tilt = "our loop stalled for 4 s" }, "tilt?", "stalled"},

		{"a Sentinel that the config does not know", func(f *Facts) { f.SentinelNodes[1].SentinelSeen = Known(true) }, "managed-elsewhere", "managed_by: sentinel"},
		{"a Sentinel where managed_by is left empty", func(f *Facts) { f.Instance.ManagedBy, f.SentinelNodes[1].SentinelSeen = "", Known(true) }, "managed-elsewhere", "managed_by: sentinel"},
		{"a Sentinel cannot be ruled out", func(f *Facts) { f.SentinelNodes[0].SentinelSeen = Opt[bool]{} }, "managed-elsewhere", "+client|list"},
		{"no CLIENT LIST was read at all", func(f *Facts) { f.SentinelNodes = nil }, "managed-elsewhere", "Sentinel"},
		{"managed by Sentinel, within its grace", func(f *Facts) {
			f.Instance.ManagedBy, f.SentinelNodes[1].SentinelSeen = ManagedBySentinel, Known(true)
			f.FaultSince = noon.Add(-ManagedGrace + 1)
		}, "managed-elsewhere?", "sentinel"},
		{"managed by Sentinel, the grace is over", func(f *Facts) {
			f.Instance.ManagedBy, f.SentinelNodes[1].SentinelSeen = ManagedBySentinel, Known(true)
			f.FaultSince = noon.Add(-ManagedGrace)
		}, "", ""},
		{"managed by DCS, the beginning is not known", func(f *Facts) { f.Instance.ManagedBy, f.FaultSince = ManagedByDCS, time.Time{} }, "managed-elsewhere?", "dcs"},
		{"a policy's longer grace holds beside a manager's", func(f *Facts) {
			f.Instance.ManagedBy, f.Policy.Reattach.Grace, f.FaultSince = ManagedByDCS, time.Hour, noon.Add(-30*time.Minute)
		}, "managed-elsewhere?", "30m"},
		{"the policy's grace holds where nobody manages", func(f *Facts) { f.Policy.Reattach.Grace = 3 * time.Second }, "managed-elsewhere?", "3s"},
		{"the policy's grace is over", func(f *Facts) { f.Policy.Reattach.Grace = 2 * time.Second }, "", ""},
		{"critical_after is a grace too", func(f *Facts) { f.Policy.Replication.CriticalAfter = 10 * time.Second }, "managed-elsewhere?", "10s"},
		{"a sweep needs no grace", func(f *Facts) {
			f.Action, f.Policy.Reattach.Grace, f.FaultSince = ReclaimExpired, time.Hour, time.Time{}
		}, "", ""},

		{"undone as often as the limit", func(f *Facts) { f.Undone = 2 }, "tug-of-war", "remediation.reattach-replica.undone"},
		{"undone once less", func(f *Facts) { f.Undone = 1 }, "", ""},
		{"a limit of 0 never counts", func(f *Facts) { f.Undone, f.Policy.Reattach.Undone = 9, 0 }, "", ""},
		{"a sweep is no tug-of-war", func(f *Facts) { f.Undone, f.Action = 9, ReclaimExpired }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := healthyFacts()
			c.change(&f)
			rs := CommonGuards(f)
			checkRulings(t, rs)
			if !deniedAs(rs, c.want) {
				t.Fatalf("denied by %q, want %q\n%s", denied(rs), c.want, listing(rs))
			}
			if r := firstDenial(rs); !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%s: reason %q does not say %q", r.Guard, r.Reason, c.reason)
			}
		})
	}
}

// deniedAs reports whether exactly the wanted guards denied. Where want names alternatives, as "lineage|no-lost-writes", at
// least one of them must deny and nothing else may.
func deniedAs(rs []Ruling, want string) bool {
	got := denied(rs)
	if !strings.Contains(want, "|") {
		return got == want
	}
	alternatives := strings.Split(want, "|")
	stray := slices.ContainsFunc(strings.Fields(got), func(g string) bool { return !slices.Contains(alternatives, g) })
	return got != "" && !stray
}

// firstDenial is the ruling that stopped the action.
func firstDenial(rs []Ruling) Ruling {
	i := slices.IndexFunc(rs, Ruling.Denied)
	if i < 0 {
		return Ruling{}
	}
	return rs[i]
}

func listing(rs []Ruling) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%-18s %-5s %s\n", r.Guard, r.Verdict, r.Reason)
	}
	return b.String()
}

// permissive are the guards whose facts are all about something standing in the way: nothing there, nothing denied.
var permissive = []Guard{GuardPause, GuardWindow, GuardCooldown, GuardStorm, GuardTilt, GuardTugOfWar, GuardHeadroom}

// The zero facts know nothing, and no answer is a deny.
func TestZeroFactsAreDenied(t *testing.T) {
	reattach, reclaim := Facts{Action: ReattachReplica}, Facts{Action: ReclaimExpired}
	for name, rs := range map[string][]Ruling{
		"common guards, no action":   CommonGuards(Facts{}),
		"common guards of reattach":  CommonGuards(reattach),
		"reattach-replica":           ReattachGuards(ReattachFacts{Facts: reattach}),
		"reattach-replica, no facts": ReattachGuards(ReattachFacts{}),
		"reclaim-expired":            ReclaimGuards(ReclaimFacts{Facts: reclaim}),
		"reclaim-expired, no facts":  ReclaimGuards(ReclaimFacts{}),
	} {
		checkRulings(t, rs)
		for _, r := range rs {
			// A Sentinel has no say in a sweep.
			if r.Guard == GuardManagedElsewhere && name != "common guards of reattach" && name != "reattach-replica" {
				continue
			}
			if !r.Denied() && !slices.Contains(permissive, r.Guard) {
				t.Errorf("%s: guard %s allows without knowing anything: %s", name, r.Guard, r.Reason)
			}
		}
	}
}

// Each action is asked every guard that it has, and each exactly once.
func TestEachActionIsAskedAllItsGuards(t *testing.T) {
	common := []Guard{GuardMode, GuardPause, GuardWindow, GuardConfirmed, GuardCapability, GuardIdentity, GuardBreaker, GuardCooldown,
		GuardBusy, GuardBudget, GuardStorm, GuardTilt, GuardManagedElsewhere, GuardTugOfWar}
	for name, c := range map[string]struct {
		got  []Ruling
		want []Guard
	}{
		"reattach": {ReattachGuards(ReattachFacts{}), append([]Guard{GuardMasterSafe, GuardLineage, GuardNoLostWrites, GuardNoCycle, GuardVersion, GuardAuth, GuardHeadroom}, common...)},
		"reclaim":  {ReclaimGuards(ReclaimFacts{}), append([]Guard{GuardIsMaster, GuardWorthwhile, GuardLatency}, common...)},
	} {
		if len(c.got) != len(c.want) {
			t.Errorf("%s: %d guards asked, want %d", name, len(c.got), len(c.want))
		}
		for _, g := range c.want {
			if rulingOf(c.got, g).Verdict == "not asked" {
				t.Errorf("%s: guard %s is not asked", name, g)
			}
		}
	}
}
