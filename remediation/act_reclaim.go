package remediation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/reclaim"
)

// reclaim sweeps the expired keys of a master and judges the effect.
func (m *Machine) reclaim(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	n, _ := m.in.Node(p.Node)
	c, off := m.connect(ctx, l, n, []string{"scan", "select", "role", "info", "config"}, rc)
	if off.outcome != "" {
		return off
	}
	defer c.Close()
	fresh, denied := m.lastLook(ctx, l, p, req)
	if denied.outcome != "" {
		return denied
	}
	if role, err := c.Role(ctx); err != nil || !strings.HasPrefix(role, "master ") {
		return result{outcome: policies.OutcomeDenied, denied: []policies.Guard{policies.GuardIdentity},
			err: fmt.Errorf("%w: %s says %q and not that it is a master: %w", errDenied, n.Name, role, err)}
	}
	before, _ := fresh.group.Of(p.Node)
	noted := time.Now()
	may := m.permission(fresh, req, policies.ReclaimExpired)
	if off := may.off(ctx); off.outcome != "" {
		return off
	}
	sweep := reclaim.Sweep{
		Conn: c, From: m.places[p.Node], Pace: m.pol.Reclaim, Target: m.pol.Reclaim.Target.Of(before.Memory.Max.V),
		Look:   m.probers[p.Node].Probe,
		Permit: may.ask,
		Progress: func(r reclaim.Result) {
			m.h.step("midway")
			m.log.Debug("sweeping", "node", p.Node, "visited", r.Visited, "keys", r.Keys, "bytes", r.Bytes)
			m.progress(sweepProgress(p.Node, req.record, r))
			if time.Since(noted) > progressEvery {
				noted = time.Now()
				m.noteRecord(ctx, req.record, fmt.Sprintf("under way: %d keys deleted, %d bytes freed", r.Keys, r.Bytes))
			}
		},
	}
	giveBack, err := m.freeLazily(ctx, c, before, req.record)
	if err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	m.h.step("sweeping")
	res, err := sweep.Run(ctx, before)
	m.h.step("swept")
	m.progress(nil)
	m.places[p.Node] = res.At
	left := giveBack()
	m.h.step("settled")
	if res.Calls == 0 && unsupported(err) {
		return result{outcome: policies.OutcomeUnsupported, err: fmt.Errorf("%s does not allow it; grant +scan and +select to the user %q: %w", n.Name, m.in.Username, err)}
	}
	if err := m.life.to(ctx, eventSent); err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	after := m.settled(ctx, p.Node, res.After)
	m.lookLater(p.Node, req.record, after)
	r := m.judgeSweep(p, before, after, res, err)
	if left != "" {
		r.effect["setting_owed"] = left
		r.said += "; " + left
	}
	if r.outcome == policies.OutcomeDenied {
		r.denied, r.held = stoppers(res, after, may.denied), true
	}
	return r
}

// perDB is what each DB lost in keys, and about in bytes: by its share of the keys.
func perDB(res reclaim.Result, bytes int64) map[string]any {
	var all int64
	for _, n := range res.Freed {
		all += n
	}
	out := map[string]any{}
	for db, n := range res.Freed {
		out["db"+strconv.Itoa(db)] = map[string]int64{"keys": n, "bytes": int64(float64(max(0, bytes)) * float64(n) / float64(all))}
	}
	return out
}

func sweepProgress(node, record string, r reclaim.Result) *policies.Progress {
	var of int64
	for _, db := range r.Before.DBs {
		if db.Expires > 0 {
			of += db.Keys
		}
	}
	return &policies.Progress{Action: policies.ReclaimExpired, Node: node, Record: record, At: time.Now().UTC(), Keys: r.Keys, Bytes: r.Bytes,
		Visited: min(r.Visited, of), Of: of, Share: r.After.Memory.Share().V * 100}
}

// mebibytes is for a text, to a tenth and without a "-0.0".
func mebibytes(n int64) float64 { return float64(n*10>>20) / 10 }

// stoppers names the guards that stopped a sweep on its way.
func stoppers(res reclaim.Result, after policies.Snapshot, rulings []policies.Ruling) []policies.Guard {
	switch {
	case after.Replication.Role == policies.RoleReplica:
		return []policies.Guard{policies.GuardIdentity}
	case res.Stop == reclaim.StopBusy:
		return []policies.Guard{policies.GuardBusy}
	}
	var out []policies.Guard
	for _, r := range rulings {
		out = append(out, r.Guard)
	}
	return out
}

// progressEvery is how often a sweep under way leaves a note in its record.
const progressEvery = 10 * time.Second

func (m *Machine) noteRecord(ctx context.Context, id, text string) {
	if err := m.h.opt.Journal.Note(ctx, id, policies.Note{At: time.Now(), Text: text}); err != nil && ctx.Err() == nil {
		m.log.Warn("progress could not be journalled", "record", id, "err", err)
	}
}

// settled waits, for 5 s at most, until the server has freed what it deletes in the background.
func (m *Machine) settled(ctx context.Context, node string, s policies.Snapshot) policies.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for s.Memory.LazyfreePending.Or(0) > 0 && wait(ctx, 50*time.Millisecond) == nil {
		if next := m.probers[node].Probe(ctx); next.Reach == policies.ReachUp {
			s = next
		}
	}
	return s
}

// judgeSweep says what came of a sweep: success is memory under the level at which the alarm clears, with writes accepted.
func (m *Machine) judgeSweep(p *policies.Plan, before, after policies.Snapshot, res reclaim.Result, err error) result {
	share := after.Memory.Share()
	master := after.Replication.Role == policies.RoleMaster
	solved := after.RunID == before.RunID && master && share.Known && share.V*100 <= float64(m.pol.UsedMemory.CriticalClear()) && after.Memory.EvictionExceeded.Or(0) == 0
	bytes := before.Memory.Counted().V - after.Memory.Counted().V
	r := result{
		sent:  res.Calls > 0,
		after: map[string]any{p.Node: nodeFacts(after)},
		effect: map[string]any{
			"keys": res.Keys, "bytes": bytes, "calls": res.Calls, "visited": res.Visited, "longest_call": res.Longest.Seconds(),
			"took": res.Took.Seconds(), "stop": res.Stop, "detail": res.Detail, "solved": solved, "p99_call": res.P99.Seconds(),
			"counted_before": before.Memory.Counted(), "counted_after": after.Memory.Counted(), "used_before": before.Memory.Used, "used_after": after.Memory.Used,
			"rss_before": before.Memory.RSS, "rss_after": after.Memory.RSS, "writes_accepted": after.Memory.EvictionExceeded.Or(0) == 0 && share.Known && share.V < 1,
			"db": perDB(res, bytes), "slowed": res.Slowed, "rtt_before": before.RTT.Seconds(), "rtt_during": res.RTT.Seconds(), "rtt_during_most": res.MostRTT.Seconds(),
			"predicted_keys": p.Expect.ExpiredKeys, "predicted_bytes": p.Expect.Bytes,
		},
		said: fmt.Sprintf("%d expired keys deleted, %.1f MiB freed in %s by %d calls (p99 %s, longest %s); memory %.1f %% of maxmemory, was %.1f %%; stopped: %s", res.Keys,
			mebibytes(bytes), res.Took.Round(10*time.Millisecond), res.Calls, res.P99.Round(10*time.Microsecond), res.Longest.Round(10*time.Microsecond), share.V*100, before.Memory.Share().V*100, res.Detail),
	}
	switch {
	case solved:
		r.outcome = policies.OutcomeSucceeded
	case res.Stop == reclaim.StopCancel:
		r.outcome, r.err = policies.OutcomeInterrupted, errors.New("the process is stopping: "+r.said)
	case after.RunID == before.RunID && after.Replication.Role == policies.RoleReplica: // somebody else's failover is no failure of ours
		r.outcome, r.err = policies.OutcomeDenied, fmt.Errorf("stopped on the way: %s became a replica of %s:%d; %s", p.Node, after.Replication.MasterHost, after.Replication.MasterPort, r.said)
	case err != nil:
		r.outcome, r.err = policies.OutcomeFailed, err
	case res.Stop == reclaim.StopChanged:
		r.outcome, r.err = policies.OutcomeFailed, errors.New(res.Detail)
	case res.Stop == reclaim.StopDenied, res.Stop == reclaim.StopBusy:
		r.outcome, r.err = policies.OutcomeDenied, fmt.Errorf("stopped on the way: %s; %s", res.Detail, r.said)
	default:
		r.outcome = policies.OutcomeIneffective
	}
	return r
}
