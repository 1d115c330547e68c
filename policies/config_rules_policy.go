package policies

import (
	"fmt"
	"time"
)

// MaxFor is the most probes in a row that a threshold may ask for.
const MaxFor = 100

// policy checks one policy. path leads to it.
func (r *rules) policy(path, name string, p Policy) {
	r.check(validName(name), path, name, NameRule)
	t := path + ".thresholds."
	r.shares(t+"used_memory", p.UsedMemory.Warning, p.UsedMemory.Critical, p.UsedMemory.Clear, p.UsedMemory.For)
	r.shares(t+"connected_clients", p.Clients.Warning, p.Clients.Critical, p.Clients.Clear, p.Clients.For)
	r.bound(t+"slowlog", "warning", p.Slowlog)
	r.bound(t+"evicted_keys", "notice", p.EvictedKeys)
	r.atLeast(t+"replication.critical_after", p.Replication.CriticalAfter, 0)
	r.reclaim(path, p)
	r.reattach(path+".remediation.reattach-replica", p.Reattach)
	r.fragmentation(t+"fragmentation", p.Fragmentation)
	r.ladderSteps(path+".remediation.", p)
	for i, w := range p.Windows {
		r.above(fmt.Sprintf("%s.windows[%d].duration", path, i), w.Duration, 0)
	}
}

// shares checks two thresholds in percent, how far below them the alarm clears, and the probes in a row.
func (r *rules) shares(path string, warning, critical, clearing Percent, probes int) {
	r.check(warning > 0, path+".warning", warning, "more than 0%")
	r.check(critical > 0 && critical <= 100, path+".critical", critical, "more than 0% and at most 100%")
	r.check(warning < critical, path+".warning", warning, fmt.Sprintf("less than critical, %v", critical), path+".critical")
	if warning > 0 {
		r.check(clearing >= 0 && clearing < warning, path+".clear", clearing,
			fmt.Sprintf("at least 0%% and less than warning, %v: the alarm clears so far below its threshold", warning), path+".warning")
	}
	r.check(probes > 0 && probes <= MaxFor, path+".for", probes, fmt.Sprintf("1 to %d probes in a row", MaxFor))
}

func (r *rules) bound(path, severity string, t CountThreshold) {
	r.check(t.Bound >= 1, path+"."+severity, t.Bound, "at least 1 event in the window")
	r.above(path+".window", t.Window, 0)
}

func (r *rules) reclaim(policy string, p Policy) {
	path, memory, s := policy+".remediation.reclaim-expired", policy+".thresholds.used_memory", p.Reclaim
	r.check(s.Target > 0, path+".target", s.Target, "more than 0%")
	r.check(s.Target <= p.UsedMemory.CriticalClear(), path+".target", s.Target,
		fmt.Sprintf("at most used_memory critical less clear, %v - %v = %v: else the sweep stops before the alarm clears",
			p.UsedMemory.Critical, p.UsedMemory.Clear, p.UsedMemory.CriticalClear()), memory+".critical", memory+".clear")
	r.above(path+".max_duration", s.MaxDuration, 0)
	r.above(path+".call_p99", s.CallP99, 0)
	r.check(s.Duty >= 1 && s.Duty <= 100, path+".duty", s.Duty, "from 1% to 100% of the time spent in calls")
	r.check(s.AbortCall > s.CallP99, path+".abort_call", s.AbortCall, fmt.Sprintf("more than call_p99, %v", s.CallP99), path+".call_p99")
	r.atLeast(path+".cooldown", s.Cooldown, 0)
}

func (r *rules) fragmentation(path string, f Fragmentation) {
	r.check(f.Warning == 0 || f.Warning > 1, path+".warning", f.Warning, "more than 1 (resident over used memory), or 0 for never")
	r.check(f.Critical == 0 || f.Critical > 1 && f.Critical > f.Warning, path+".critical", f.Critical, fmt.Sprintf("more than warning, %v, or 0 for never", f.Warning), path+".warning")
	r.check(f.LeastMB >= 1, path+".least_mb", f.LeastMB, "at least 1 MiB: the ratio of a small server means nothing")
}

// ladderSteps checks the bounds of the steps that an instance can opt into.
func (r *rules) ladderSteps(path string, p Policy) {
	r.atLeast(path+"purge-memory.cooldown", p.Purge.Cooldown, 0)
	e, k := p.Evict, p.Kill
	r.above(path+"evict-near-expiry.horizon", e.Horizon, 0)
	r.check(e.MaxKeys >= 1, path+"evict-near-expiry.max_keys", e.MaxKeys, "at least 1")
	r.check(e.MaxMB >= 1, path+"evict-near-expiry.max_mb", e.MaxMB, "at least 1 MiB")
	r.atLeast(path+"evict-near-expiry.cooldown", e.Cooldown, 0)
	r.above(path+"kill-idle-clients.idle", k.Idle, 0)
	r.check(k.Target > 0 && k.Target < 100, path+"kill-idle-clients.target", k.Target, "more than 0% and less than 100%")
	r.check(k.MaxClients >= 1, path+"kill-idle-clients.max_clients", k.MaxClients, "at least 1")
	r.atLeast(path+"kill-idle-clients.cooldown", k.Cooldown, 0)
	r.patterns(path+"evict-near-expiry.allow", e.Allow)
	r.patterns(path+"evict-near-expiry.protect", e.Protect)
	r.patterns(path+"kill-idle-clients.protect", k.Protect)
}

func (r *rules) patterns(path string, all []string) {
	for i, pattern := range all {
		r.check(ValidPattern(pattern), fmt.Sprintf("%s[%d]", path, i), pattern, "a pattern such as cache:*, with every [ closed")
	}
}

func (r *rules) reattach(path string, s Reattach) {
	r.atLeast(path+".grace", s.Grace, 0)
	r.atLeast(path+".cooldown", s.Cooldown, 0)
	r.check(s.Undone >= 0, path+".undone", s.Undone, "0 (never a tug-of-war) or a number of undone repairs within 1 h")
}

func (r *rules) above(path string, d, bound time.Duration) {
	r.check(d > bound, path, d, fmt.Sprintf("a duration above %v", bound))
}

func (r *rules) atLeast(path string, d, bound time.Duration) {
	r.check(d >= bound, path, d, fmt.Sprintf("a duration of at least %v", bound))
}
