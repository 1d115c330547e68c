package agent

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"dcshealer/policies"
)

// flapFirings is how many firings of one alarm within flapSpan repeats make it flap: it then resolves only after
// having been better for a whole repeat, so that a node that comes and goes does not wake people at each turn.
const (
	flapFirings = 3
	flapSpan    = 10
)

// causeRest is how soon a standing alarm is published again because its cause changed.
const causeRest = 15 * time.Second

// A tracker follows the alarms of one instance over time. It reads no clock and does no I/O: judgements and now in,
// publications out. Its owner serialises the calls.
//
//	judgement      no alarm stands               an alarm stands
//	healthy        forget the row                resolve it (a flapping one after a repeat of health)
//	fault          fire after `for` in a row     other severity: resolve and fire (a flapping one falls late); else repeat when due
//	unknown        nothing                       nothing: it stays and is not repeated
type tracker struct {
	instance string
	policy   policies.Policy
	repeat   time.Duration
	alarms   map[alarmKey]*tracked
	back     bool // a critical fault is back whose alarm was held standing; the owner resets it
}

type alarmKey struct {
	metric policies.Metric
	node   string
}

// tracked is one metric of one node.
type tracked struct {
	row         []policies.Severity // of the newest judgements, at most as many as `for` demands
	levels      [4]time.Time        // by severity: since when each judgement reached it; zero: the newest did not
	standing    policies.Alarm      // as last published; Severity 0: none stands
	cause       policies.Cause      // of standing
	fired       []time.Time         // the newest firings
	betterSince time.Time           // since when the judgements are below a standing alarm; zero: they are not
}

func newTracker(instance string, p policies.Policy, repeat time.Duration) *tracker {
	return &tracker{instance: instance, policy: p, repeat: repeat, alarms: map[alarmKey]*tracked{}}
}

// severity is that of a standing alarm, 0 for none.
func (t *tracker) severity(m policies.Metric, node string) policies.Severity {
	if a, ok := t.alarms[alarmKey{m, node}]; ok {
		return a.standing.Severity
	}
	return 0
}

// step takes judgements and returns what is to be published, in their order.
func (t *tracker) step(judged []policies.Judgement, now time.Time) []policies.Alarm {
	var out []policies.Alarm
	for _, j := range judged {
		if !j.Known {
			continue
		}
		key := alarmKey{j.Metric, j.Node}
		a, ok := t.alarms[key]
		if !ok {
			a = &tracked{}
			t.alarms[key] = a
		}
		out = append(out, t.one(a, j.Finding, now)...)
	}
	return out
}

func (t *tracker) one(a *tracked, f policies.Finding, now time.Time) []policies.Alarm {
	f.Severity = t.softened(a, f, now)
	a.reach(f.Severity, now)
	was := a.standing.Severity
	switch to := a.target(f.Severity, t.dwell(f.Metric)); {
	case was == 0 && to == 0:
		return nil
	case was == 0:
		return []policies.Alarm{t.fire(a, f, to, a.levels[to], now)}
	case to > was:
		return []policies.Alarm{t.end(a, f), t.fire(a, f, to, a.levels[to], now)}
	case to < was:
		return t.fall(a, f, to, now)
	}
	t.back = t.back || !a.betterSince.IsZero() && f.Severity == policies.Critical
	a.betterSince = time.Time{}
	return t.again(a, f, now)
}

// softened is the severity of a finding after critical_after: a replica that has not been off its master for so long is a warning.
func (t *tracker) softened(a *tracked, f policies.Finding, now time.Time) policies.Severity {
	after := t.policy.Replication.CriticalAfter
	if f.Metric != policies.MetricReplication || f.Severity != policies.Critical || after <= 0 {
		return f.Severity
	}
	if since := a.levels[policies.Warning]; since.IsZero() || now.Sub(since) < after {
		return policies.Warning
	}
	return policies.Critical
}

// reach notes since when each severity has been reached without a break.
func (a *tracked) reach(s policies.Severity, now time.Time) {
	for _, l := range policies.Severities {
		switch {
		case s < l:
			a.levels[l] = time.Time{}
		case a.levels[l].IsZero():
			a.levels[l] = now
		}
	}
}

// dwell is how many judgements in a row a metric needs.
func (t *tracker) dwell(m policies.Metric) int {
	switch m {
	case policies.MetricUsedMemory:
		return max(t.policy.UsedMemory.For, 1)
	case policies.MetricClients:
		return max(t.policy.Clients.For, 1)
	}
	return 1
}

// target adds the newest judgement to the row and says at which severity the alarm should stand: it falls with the
// newest (the hysteresis is in that already) and rises to what the last dwell judgements all reached.
func (a *tracked) target(newest policies.Severity, dwell int) policies.Severity {
	a.row = append(a.row, newest)
	a.row = a.row[max(0, len(a.row)-dwell):]
	was := a.standing.Severity
	switch {
	case newest <= was:
		return newest
	case len(a.row) < dwell:
		return was
	}
	return max(was, slices.Min(a.row))
}

// fire makes the alarm stand and returns its publication.
func (t *tracker) fire(a *tracked, f policies.Finding, s policies.Severity, since, now time.Time) policies.Alarm {
	a.standing = t.alarm(f, s, policies.Firing)
	a.standing.Since, a.standing.At, a.cause, a.betterSince = since, now, f.Cause, time.Time{}
	a.fired = append(a.fired, now)
	return a.standing
}

// fall resolves a standing alarm, and fires at the lower severity where one is left. A flapping one waits until it has been
// better for a whole repeat.
func (t *tracker) fall(a *tracked, f policies.Finding, to policies.Severity, now time.Time) []policies.Alarm {
	if a.betterSince.IsZero() {
		a.betterSince = now
	}
	if t.flaps(a, now) && now.Sub(a.betterSince) < t.repeat {
		return nil
	}
	out := []policies.Alarm{t.end(a, f)}
	if to > 0 {
		out = append(out, t.fire(a, f, to, now, now))
	}
	return out
}

// flaps forgets firings that are long past, and reports whether too many are left.
func (t *tracker) flaps(a *tracked, now time.Time) bool {
	a.fired = slices.DeleteFunc(a.fired, func(at time.Time) bool { return now.Sub(at) > flapSpan*t.repeat })
	return len(a.fired) >= flapFirings
}

// end returns the publication that resolves the standing alarm, on the channel on which it fired.
func (t *tracker) end(a *tracked, f policies.Finding) policies.Alarm {
	out := t.alarm(f, a.standing.Severity, policies.Resolved)
	out.Msg = policies.ResolvedPrefix + cmp.Or(f.Msg, a.standing.Msg)
	out.Since = a.standing.Since
	a.standing = policies.Alarm{}
	return out
}

// drop resolves what stands on nodes that are no longer watched, and forgets them.
func (t *tracker) drop(gone func(node string) bool, why string) (out []policies.Alarm) {
	for _, a := range t.published() {
		if gone(a.Node) {
			a.Status, a.Msg = policies.Resolved, policies.ResolvedPrefix+why
			out = append(out, a)
		}
	}
	maps.DeleteFunc(t.alarms, func(key alarmKey, _ *tracked) bool { return gone(key.node) })
	return out
}

// clone is a copy that goes on by itself.
func (a *tracked) clone() *tracked {
	c := *a
	c.row, c.fired = slices.Clone(a.row), slices.Clone(a.fired)
	return &c
}

// again publishes a standing alarm with its newest reading when a repeat is due, and sooner when its cause changed.
func (t *tracker) again(a *tracked, f policies.Finding, now time.Time) []policies.Alarm {
	rest := now.Sub(a.standing.At)
	if rest < t.repeat && (f.Cause == a.cause || rest < causeRest) {
		return nil
	}
	out := t.alarm(f, a.standing.Severity, policies.Firing)
	out.Since, out.At = a.standing.Since, now
	a.standing, a.cause = out, f.Cause
	return []policies.Alarm{out}
}

func (t *tracker) alarm(f policies.Finding, s policies.Severity, status policies.Status) policies.Alarm {
	return policies.Alarm{Severity: s, Instance: t.instance, Metric: f.Metric, Node: f.Node, Value: f.Value, Threshold: f.Threshold,
		Pct: f.Pct, Window: f.Window, Slave: f.Slave, Msg: f.Msg, Status: status}
}

// published is the standing alarms, by metric and node.
func (t *tracker) published() []policies.Alarm {
	var out []policies.Alarm
	for _, a := range t.alarms {
		if a.standing.Severity > 0 {
			out = append(out, a.standing)
		}
	}
	slices.SortFunc(out, func(x, y policies.Alarm) int {
		return cmp.Or(cmp.Compare(x.Metric, y.Metric), cmp.Compare(x.Node, y.Node))
	})
	return out
}
