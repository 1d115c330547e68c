package remediation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/evict"
)

// nearProber is a Prober that can look for keys near their expiry on a replica.
type nearProber interface {
	SampleNear(ctx context.Context, o probe.NearOptions) (probe.NearSample, error)
}

var _ nearProber = (*probe.Prober)(nil)

// How long a replica is looked at: for a plan, so that the evidence is still fresh after it, and for the action. A plan's look is
// believed for nearFor: a fault that stands for hours must not scan the replica all the time.
const (
	nearPlanBudget = 1500 * time.Millisecond
	nearActBudget  = 10 * time.Second
	nearMeasured   = 1000
	nearFor        = time.Minute
)

func (m *Machine) planEvict(ctx context.Context, l look, r request) *policies.Plan {
	s, _ := l.group.Of(r.fault.Node)
	near, nearErr := m.near(ctx, l.group, s)
	commands := []string{"select"}
	if !near.Keys.Known {
		commands = append(commands, "scan")
	}
	f := policies.EvictFacts{Near: near, NearErr: nearErr, ReclaimFacts: policies.ReclaimFacts{
		Facts: m.facts(ctx, l, r, policies.EvictNearExpiry, s, commands...),
		M:     s, Diagnosis: l.memory[r.fault.Node], CalmRTT: m.calm(r.fault.Node),
	}}
	f.Evidence = []policies.Snapshot{s}
	p := policies.PlanEvict(f, r.fault.Cause)
	return &p
}

// near estimates the keys of a master that may go, on a replica in step or by the estimate that is kept. failed says why no such
// replica could be looked at, where there is one.
func (m *Machine) near(ctx context.Context, g policies.Group, master policies.Snapshot) (e policies.Estimate, failed string) {
	if !slices.Contains(m.in.Ladder, policies.EvictNearExpiry) || m.pol.Evict.Fault() != "" {
		return policies.Estimate{Method: "not looked for"}, ""
	}
	if kept, now := m.estimates[nearKey(master.Node)], time.Now(); kept.runID == master.RunID && now.Before(kept.until) {
		return kept.Estimate, ""
	}
	s, node, err := m.sampleNear(ctx, g, master, probe.NearOptions{Measure: nearMeasured, Budget: nearPlanBudget})
	switch {
	case err != nil:
		return policies.Estimate{}, err.Error()
	case node == "":
		return policies.Estimate{Method: policies.NotKnownWithoutActing + ": no replica in step to look at"}, ""
	}
	e = nearEstimate(s, m.pol.Evict, node)
	m.keepNear(master, e)
	return e, ""
}

// nearKey is where the estimate of keys near their expiry is kept beside that of the expired ones. No node's name holds a space.
func nearKey(node string) string { return "near " + node }

func (m *Machine) keepNear(master policies.Snapshot, e policies.Estimate) {
	m.estimates[nearKey(master.Node)] = keptEstimate{Estimate: e, runID: master.RunID, until: time.Now().Add(nearFor)}
}

// nearEstimate is a look in numbers.
func nearEstimate(s probe.NearSample, p policies.Evict, node string) policies.Estimate {
	e := policies.Estimate{Keys: policies.Known(s.Sum()), Exact: s.Complete, Method: "looked at on " + node}
	if !s.Complete {
		e.Method += ", at the part that there was time for"
	}
	var parts []string
	for i, n := range s.About {
		parts = append(parts, fmt.Sprintf("%s %d", p.Allow[i], n))
	}
	e.Method = strings.Join(parts, ", ") + " keys, " + e.Method
	switch {
	case s.MeanSize.Known:
		e.Bytes = policies.Known(int64(s.MeanSize.V * float64(e.Keys.V)))
	case e.Keys.V == 0:
		e.Bytes = policies.Known(int64(0))
	}
	return e
}

// sampleNear looks at the first replica in step that lets itself be looked at; node is empty where there is none in step.
func (m *Machine) sampleNear(ctx context.Context, g policies.Group, master policies.Snapshot, o probe.NearOptions) (s probe.NearSample, node string, err error) {
	o.Policy = m.pol.Evict
	var errs []error
	for _, x := range g.Snapshots {
		r := x.Replication
		inStep := x.Reach == policies.ReachUp && r.Role == policies.RoleReplica && r.LinkUp.Or(false) &&
			r.ReplID == master.Replication.ReplID && !r.SyncInProgress.Or(true)
		p, can := m.probers[x.Node].(nearProber)
		if !inStep || !can {
			continue
		}
		if s, err = p.SampleNear(ctx, o); err == nil {
			return s, x.Node, nil
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return s, "", fmt.Errorf("%w: it takes %s", errors.Join(errs...), m.nearRights("+scan", "+pttl", "+memory|usage"))
	}
	return s, "", nil
}

// nearRights is what to grant to the user.
func (m *Machine) nearRights(rules ...string) string {
	for _, p := range m.pol.Evict.Allow {
		rules = append(rules, "~"+p)
	}
	return strings.Join(rules, " ") + " for the user " + strconv.Quote(cmpText(m.in.Username, "default"))
}

// evict deletes keys of a master that expire soon and judges the effect. Where a replica in step tells which they are, the master is not
// scanned.
func (m *Machine) evict(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	n, _ := m.in.Node(p.Node)
	permit := []string{"eval", "pttl", "memory", "select", "role", "info"}
	sample, off := m.nearToGo(ctx, l, p)
	switch {
	case off.outcome != "":
		return off
	case sample == nil:
		permit = append(permit, "scan")
	}
	m.h.step("sampled")
	sums := &keylessSums{names: m.in.Renamed}
	own := &recorder{each: sums.add} // the commands hold key names: only their sums go on record
	c, off := m.connect(ctx, l, n, permit, own)
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
	may := m.permission(fresh, req, policies.EvictNearExpiry)
	e := m.eviction(ctx, c, sample, fresh, req, may)
	res, err := e.Run(ctx, before)
	m.h.step("evicted")
	for _, sum := range sums.all(own.summed()) {
		rc.each(sum)
	}
	if res.Keys == 0 && unsupported(err) {
		return result{outcome: policies.OutcomeUnsupported,
			err: fmt.Errorf("%s does not allow it; grant %s: %w", n.Name, m.nearRights("+eval", "+pttl", "+unlink", "+memory|usage", "+select", "+scan"), err)}
	}
	if err := m.life.to(ctx, eventSent); err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	after := m.settled(ctx, p.Node, res.After)
	m.lookLater(p.Node, req.record, after)
	r := m.judgeEviction(p, before, after, res, err)
	if r.outcome == policies.OutcomeDenied {
		r.denied = []policies.Guard{policies.GuardBusy}
		if res.Stop == evict.StopDenied {
			r.denied, r.held = guardsOf(may.denied), true
		}
	}
	return r
}

// nearToGo asks a replica in step for the keys that may go; nil: there is none, and the plan says that the master itself is scanned.
func (m *Machine) nearToGo(ctx context.Context, l look, p *policies.Plan) (*probe.NearSample, result) {
	master, _ := l.group.Of(p.Node)
	refuse := func(err error) result {
		if ctx.Err() != nil {
			return stopping(ctx)
		}
		return result{outcome: policies.OutcomeDenied, denied: []policies.Guard{policies.GuardVictims}, err: fmt.Errorf("%w: %w", errDenied, err), held: true}
	}
	s, node, err := m.sampleNear(ctx, l.group, master, probe.NearOptions{Keep: m.pol.Evict.MaxKeys, Budget: nearActBudget})
	switch {
	case err != nil:
		return nil, refuse(err)
	case node == "":
		return nil, result{}
	case len(s.Keys) == 0:
		m.keepNear(master, nearEstimate(s, m.pol.Evict, node))
		return nil, refuse(errors.New("no key qualifies any more"))
	}
	return &s, result{}
}

// eviction is set up to watch the master and the guards while it runs.
func (m *Machine) eviction(ctx context.Context, c *conn, sample *probe.NearSample, l look, req request, may *permission) evict.Eviction {
	node, noted := req.fault.Node, time.Now()
	before, _ := l.group.Of(node)
	return evict.Eviction{
		Conn: c, Policy: m.pol.Evict, Pace: m.pol.Reclaim, Target: m.pol.Reclaim.Target.Of(before.Memory.Max.V), Sample: sample,
		Look:   m.probers[node].Probe,
		Permit: may.ask,
		Ready:  func() { m.h.step("evicting") },
		Progress: func(r evict.Result) {
			m.log.Debug("deleting keys near their expiry", "node", node, "keys", r.Keys, "bytes", r.Bytes)
			if time.Since(noted) > progressEvery {
				noted = time.Now()
				m.noteRecord(ctx, req.record, fmt.Sprintf("under way: %d keys deleted, %d bytes by MEMORY USAGE", r.Keys, r.Bytes))
			}
		},
	}
}

// judgeEviction says what came of it: success is what it is for a sweep.
func (m *Machine) judgeEviction(p *policies.Plan, before, after policies.Snapshot, res evict.Result, err error) result {
	share := after.Memory.Share()
	solved := after.RunID == before.RunID && share.Known && share.V*100 <= float64(m.pol.UsedMemory.CriticalClear()) && after.Memory.EvictionExceeded.Or(0) == 0
	by := map[string]any{}
	for _, t := range res.By {
		by[t.Pattern] = map[string]int64{"keys": t.Keys, "bytes": t.Bytes}
	}
	if refused(err) {
		res.Unknown = 0
	}
	r := result{
		sent:  res.Calls+res.Reads > 0,
		after: map[string]any{p.Node: nodeFacts(after)},
		effect: map[string]any{
			"keys": res.Keys, "bytes": res.Bytes, "unknown": res.Unknown, "by_pattern": by, "found": res.Found, "found_in_part": res.Part,
			"skipped": map[string]int64{"gone": res.Skipped.Gone, "ttl_removed": res.Skipped.NoTTL, "ttl_raised": res.Skipped.Raised,
				"protected": res.Skipped.Protected, "capped": res.Skipped.Capped},
			"calls": res.Calls, "longest_call": res.Longest.Seconds(), "took": res.Took.Seconds(), "stop": res.Stop, "detail": res.Detail, "solved": solved,
			"counted_before": before.Memory.Counted(), "counted_after": after.Memory.Counted(),
		},
		said: fmt.Sprintf("%d keys near their expiry deleted, %.1f MiB, in %s by %d calls (longest %s); memory %.1f %% of maxmemory, was %.1f %%; stopped: %s", res.Keys,
			mebibytes(res.Bytes), res.Took.Round(10*time.Millisecond), res.Calls, res.Longest.Round(10*time.Microsecond), share.V*100, before.Memory.Share().V*100, res.Detail),
	}
	if res.Unknown > 0 {
		r.said += fmt.Sprintf("; whether %d more were deleted is not known", res.Unknown)
	}
	switch {
	case solved:
		r.outcome = policies.OutcomeSucceeded
	case res.Stop == evict.StopCancel:
		r.outcome, r.err = policies.OutcomeInterrupted, errors.New("the process is stopping: "+r.said)
	case err != nil:
		r.outcome, r.err = policies.OutcomeFailed, fmt.Errorf("%w; %s", err, r.said)
	case res.Stop == evict.StopChanged:
		r.outcome, r.err = policies.OutcomeFailed, errors.New(res.Detail+"; "+r.said)
	case res.Stop == evict.StopDenied, res.Stop == evict.StopBusy:
		r.outcome, r.err = policies.OutcomeDenied, fmt.Errorf("stopped on the way: %s; %s", res.Detail, r.said)
	default:
		r.outcome = policies.OutcomeIneffective
	}
	return r
}

// keylessSums adds up the commands of an eviction by kind and drops their arguments, which are key names.
type keylessSums struct {
	names policies.Renames
	kinds []string
	sums  map[string]*policies.CommandRecord
	keys  int // names given to EVAL
}

func (s *keylessSums) add(c policies.CommandRecord) {
	kind := strings.ToUpper(s.names.Own(c.Args[0]))
	switch kind {
	case "MEMORY":
		return // reads only
	case "EVAL":
		n, _ := strconv.Atoi(c.Args[2])
		s.keys += n
	}
	sum := s.sums[kind]
	if sum == nil {
		if s.sums == nil {
			s.sums = map[string]*policies.CommandRecord{}
		}
		sum = &policies.CommandRecord{Node: c.Node, At: c.At, Reply: "OK"}
		s.kinds, s.sums[kind] = append(s.kinds, kind), sum
	}
	sum.Count++
	sum.Took += c.Took
	sum.TookS += c.TookS
	sum.Longest = max(sum.Longest, c.TookS)
	if c.Reply != "OK" { // an error; its text may repeat the arguments
		sum.Reply, _, _ = strings.Cut(c.Reply, " ")
	}
}

// all is the sums, after those of SCAN, which the recorder makes itself.
func (s *keylessSums) all(scans []policies.CommandRecord) []policies.CommandRecord {
	out := slices.Clone(scans)
	for _, kind := range s.kinds {
		sum, sent := *s.sums[kind], s.names.Sent(kind)
		switch kind {
		case "EVAL":
			sum.Args = []string{sent, "near-expiry", strconv.Itoa(s.keys) + " keys"}
		case "SELECT":
			sum.Args = []string{sent, "db"}
		default:
			sum.Args = []string{sent, "key"}
		}
		out = append(out, sum)
	}
	return out
}
