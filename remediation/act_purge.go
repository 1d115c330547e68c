package remediation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dcshealer/policies"
)

func (m *Machine) planPurge(ctx context.Context, l look, r request) *policies.Plan {
	s, _ := l.group.Of(r.fault.Node)
	f := policies.PurgeFacts{Facts: m.facts(ctx, l, r, policies.PurgeMemory, s), S: s, CalmRTT: m.calm(r.fault.Node)}
	f.Evidence = []policies.Snapshot{s}
	p := policies.PlanPurge(f, r.fault.Cause)
	return &p
}

// purge has the allocator of a node give its free pages back, by one command, and waits until its resident memory shows it.
func (m *Machine) purge(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	n, _ := m.in.Node(p.Node)
	c, off := m.connect(ctx, l, n, []string{"memory", "info"}, rc)
	if off.outcome != "" {
		return off
	}
	defer c.Close()
	fresh, denied := m.lastLook(ctx, l, p, req)
	if denied.outcome != "" {
		return denied
	}
	before, _ := fresh.group.Of(p.Node)
	m.h.step("looked")
	if off := m.permission(fresh, req, policies.PurgeMemory).off(ctx); off.outcome != "" {
		return off
	}
	start := time.Now()
	err := c.Purge(context.WithoutCancel(ctx)) // not called off once it is on its way
	took := time.Since(start)
	switch {
	case unsupported(err):
		return result{outcome: policies.OutcomeUnsupported, err: fmt.Errorf("%s does not allow it; grant +memory|purge to the user %q: %w", n.Name, m.in.Username, err)}
	case refused(err):
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	if err := m.life.to(ctx, eventSent); err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	return m.judgePurge(ctx, p, before, took, err)
}

// judgePurge says what came of it. The server reads its resident memory ten times a second, so that it is waited for. An answer that was
// lost is no failure where the effect shows.
func (m *Machine) judgePurge(ctx context.Context, p *policies.Plan, before policies.Snapshot, took time.Duration, err error) result {
	after := m.settledBelow(ctx, p.Node, func(s policies.Snapshot) bool { return purged(before, s, m.pol.Fragmentation) })
	a, b := before.Memory, after.Memory
	solved := purged(before, after, m.pol.Fragmentation)
	r := result{
		sent:  true,
		after: map[string]any{p.Node: nodeFacts(after)},
		effect: map[string]any{
			"rss_before": a.RSS, "rss_after": b.RSS, "used_before": a.Used, "used_after": b.Used, "ratio_before": a.FragmentationX, "ratio_after": b.FragmentationX,
			"predicted_bytes": p.Expect.Bytes, "call": took.Seconds(), "allocator": a.Allocator.Name, "solved": solved,
		},
		said: fmt.Sprintf("%.1f MiB resident, were %.1f MiB, %s times the memory in use, were %s times; the call took %s", mebibytes(b.RSS.V), mebibytes(a.RSS.V), b.FragmentationX, a.FragmentationX,
			took.Round(time.Millisecond)),
	}
	if a.RSS.Known && b.RSS.Known {
		r.effect["bytes"] = a.RSS.V - b.RSS.V
	}
	switch {
	case solved:
		r.outcome = policies.OutcomeSucceeded
	case err != nil:
		r.outcome, r.err = policies.OutcomeFailed, err
	case ctx.Err() != nil:
		r.outcome, r.err = policies.OutcomeInterrupted, errors.New("MEMORY PURGE was sent and the process is stopping: "+r.said)
	default:
		r.outcome = policies.OutcomeIneffective
	}
	return r
}

// purged: the ratio is under the critical one, or the resident memory fell by a tenth of what was held too much.
func purged(before, after policies.Snapshot, t policies.Fragmentation) bool {
	a, b := before.Memory, after.Memory
	if after.Reach != policies.ReachUp || after.RunID != before.RunID || !b.FragmentationX.Known || !a.RSS.Known || !b.RSS.Known {
		return false
	}
	return b.FragmentationX.V < t.Critical || a.RSS.V-b.RSS.V >= a.FragmentationB.V/policies.PurgeShare
}
