package remediation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// request is what a plan is made for.
type request struct {
	fault         fault
	action        policies.Action   // of those that can cure the fault
	since         time.Time         // when our own probe first saw the fault; zero: unknown
	planned       policies.Snapshot // the target when the plan was made; zero: it is being made now
	plannedMaster policies.Snapshot // the master it should follow, likewise
	record        string            // the journal record under way; empty: none
	byHand        bool              // a person gave the command heal: without live it never goes further than the plan
	live          bool              // ... with --live --yes
	allowLost     string            // the node whose own writes a person gives up
}

// plan makes the plan of one action that may cure the fault and asks every guard; nil where there is none. Its commands are as they go out.
func (m *Machine) plan(ctx context.Context, l look, r request) *policies.Plan {
	p := m.planOf(ctx, l, r)
	if p != nil {
		p.Commands = m.in.Renamed.All(p.Commands)
	}
	return p
}

func (m *Machine) planOf(ctx context.Context, l look, r request) *policies.Plan {
	switch r.action {
	case policies.ReattachReplica:
		return m.planReattach(ctx, l, r)
	case policies.ReclaimExpired:
		return m.planReclaim(ctx, l, r)
	case policies.PurgeMemory:
		return m.planPurge(ctx, l, r)
	case policies.EvictNearExpiry:
		return m.planEvict(ctx, l, r)
	case policies.KillIdleClients:
		return m.planKill(ctx, l, r)
	}
	return nil
}

// remedies lists the actions that may cure a fault, in the order in which they are tried: steps of the ladder only where the instance
// opted into them.
func (m *Machine) remedies(f fault) []policies.Action {
	var out []policies.Action
	if f.remedy != "" {
		out = append(out, f.remedy)
	}
	for _, step := range m.in.Ladder {
		if ladder[f.Metric] == step {
			out = append(out, step)
		}
	}
	return out
}

// ladder is the step that may help with each metric.
var ladder = map[policies.Metric]policies.Action{
	policies.MetricUsedMemory:    policies.EvictNearExpiry,
	policies.MetricFragmentation: policies.PurgeMemory,
	policies.MetricClients:       policies.KillIdleClients,
}

// plans makes every plan for a fault. only limits them to one action; empty: all.
func (m *Machine) plans(ctx context.Context, l look, r request, only policies.Action) (out []*policies.Plan) {
	for _, a := range m.remedies(r.fault) {
		if only != "" && a != only {
			continue
		}
		r.action = a
		if p := m.plan(ctx, l, r); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// choose takes the first plan, and the next one where the first is at its end: it is not worth it, or did not help.
func choose(plans []*policies.Plan) *policies.Plan {
	if len(plans) == 0 {
		return nil
	}
	best := plans[0]
	for _, p := range plans[1:] {
		if best.Permitted || !exhausted(best) {
			break
		}
		if p.Permitted || p.Held() {
			best = p
		}
	}
	return best
}

// exhausted reports that an action has nothing to offer now, whatever a person enables.
func exhausted(p *policies.Plan) bool {
	return slices.ContainsFunc(p.DeniedBy, func(g policies.Guard) bool {
		return g == policies.GuardWorthwhile || g == policies.GuardCooldown || g == policies.GuardBreaker
	})
}

func (m *Machine) planReattach(ctx context.Context, l look, r request) *policies.Plan {
	xn, _ := m.in.Node(r.fault.Node)
	mn := m.in.Master()
	x, _ := l.group.Of(xn.Name)
	mast, _ := l.group.Of(mn.Name)
	earlier, _ := l.earlier.Of(mn.Name)
	f := policies.ReattachFacts{
		Facts: m.facts(ctx, l, r, policies.ReattachReplica, x),
		X:     x, M: mast, XNode: xn, MNode: mn, Group: l.group, EarlierM: earlier,
		OldX: m.h.remembered(m.in.Name, xn.Name), OldM: m.h.remembered(m.in.Name, mn.Name),
		AllowLost: r.allowLost != "" && r.allowLost == xn.Name,
		PlannedM:  r.plannedMaster,
		Peer:      m.atPeerAddress(ctx, mn),
	}
	f.Evidence = []policies.Snapshot{x, mast}
	f.SentinelNodes = []policies.Snapshot{x, mast}
	p := policies.PlanReattach(f, r.fault.Cause)
	return &p
}

// peerTimeout is how long a master's peer address is tried from here. It may well lead nowhere: that is what it is for.
const peerTimeout = 300 * time.Millisecond

// atPeerAddress is what answers us at the address that would go into REPLICAOF, where that is another than ours; zero where nothing can be
// read there. A peer address of another server would have its data replace that of the replica.
func (m *Machine) atPeerAddress(ctx context.Context, n policies.Node) policies.Snapshot {
	if n.Peer() == n.Address {
		return policies.Snapshot{}
	}
	n.Address = n.Peer()
	o, err := probe.For(m.in, n, peerTimeout, nil)
	if err != nil {
		return policies.Snapshot{}
	}
	p := probe.New(o)
	defer p.Close() //nolint:errcheck // it only reads
	s := p.Probe(ctx)
	if !s.Reach.Answers() {
		return policies.Snapshot{}
	}
	return s
}

func (m *Machine) planReclaim(ctx context.Context, l look, r request) *policies.Plan {
	s, _ := l.group.Of(r.fault.Node)
	f := policies.ReclaimFacts{
		Facts: m.facts(ctx, l, r, policies.ReclaimExpired, s, "scan", "select"),
		M:     s, Diagnosis: l.memory[r.fault.Node], CalmRTT: m.calm(r.fault.Node),
	}
	f.Evidence = []policies.Snapshot{s}
	d := f.Diagnosis
	known := d.Expired.Known
	commands := [][]string{{"SCAN", "cursor", "COUNT", "n"}}
	if m.pol.Reclaim.LazyFree && s.LazyfreeExpire == policies.Known("no") { // around the sweep
		commands = append(commands, []string{"CONFIG", "SET", lazyExpire, "yes"}, []string{"CONFIG", "SET", lazyExpire, "no"})
	}
	p := &policies.Plan{
		Action: policies.ReclaimExpired, Node: r.fault.Node, Mode: f.Mode, Cause: r.fault.Cause,
		Commands: commands,
		Guards:   policies.ReclaimGuards(f),
		Memory:   d.Report(),
		Expect:   policies.Expect{ExpiredKeys: d.Expired, Bytes: d.ExpiredBytes, Known: &known, Method: d.Method},
	}
	p.Decide()
	return p
}

// facts gathers what every action's guards ask. What cannot be read is left unknown, which denies.
func (m *Machine) facts(ctx context.Context, l look, r request, a policies.Action, target policies.Snapshot, commands ...string) policies.Facts {
	now, budget := time.Now(), m.h.config().Budget
	f := policies.Facts{
		Now: now, Instance: m.in, Policy: m.pol, Action: a, Target: target, Planned: target,
		Agreed: l.agreed[r.fault.key()], FaultSince: r.since, Commands: commands, Tilt: m.h.tilt.reason(now), JournalErr: m.h.keeper.reason(),
		Mode: policies.DryRun, ModeReason: "the runtime settings are not known",
		MaxRunning: budget.ConcurrentActions, MaxFull: budget.FullResyncs, Storm: budget.Storm,
	}
	if r.planned.RunID != "" {
		f.Planned = r.planned
	}
	f.OtherTrouble, f.OthersUnknown, f.Others = m.h.trouble(ctx, m.in.Name, now)
	f.ControlErr = m.readJournal(ctx, &f, r)
	return f
}

// readJournal fills in what the journal's file holds: modes, pauses, breakers, what ran and what runs.
func (m *Machine) readJournal(ctx context.Context, f *policies.Facts, r request) error {
	j := m.h.opt.Journal
	if j == nil && errors.Is(m.h.opt.JournalErr, journal.ErrNoJournal) {
		// Nothing was ever decided or enabled here: the config alone says what may run.
		f.Mode, f.ModeReason = policies.ModeOf(m.in, f.Action, nil, m.h.opt.DryRun, f.Now)
		f.Breaker, f.FleetBreaker = "closed", "closed"
		return nil
	}
	if j == nil {
		return cmpErr(m.h.opt.JournalErr, errors.New("no journal"))
	}
	if err := m.readControls(ctx, f, r); err != nil {
		return err
	}
	var err error
	if f.Breaker, err = m.h.breakers.state(breakerName(m.in.Name, f.Action), f.Now); err != nil {
		return err
	}
	if f.FleetBreaker, err = m.h.breakers.state(fleetBreakerName(f.Action), f.Now); err != nil {
		return err
	}
	return m.readHistory(ctx, f, r)
}

// readControls fills in what persons have switched: modes and pauses.
func (m *Machine) readControls(ctx context.Context, f *policies.Facts, r request) error {
	j := m.h.opt.Journal
	grants, err := j.Live(ctx, f.Now)
	if err != nil {
		return err
	}
	f.Mode, f.ModeReason = policies.ModeOf(m.in, f.Action, grants, m.h.opt.DryRun, f.Now)
	switch {
	case r.byHand && !r.live:
		f.Mode, f.ModeReason = policies.DryRun, "given by hand without --live --yes: nothing is sent; add them"
	case r.byHand:
		f.Mode, f.ModeReason = policies.Live, "asked for by hand with --live --yes"
	}
	pause, paused, err := j.Paused(ctx, m.in.Name, f.Now)
	if err != nil {
		return err
	}
	if paused {
		f.Paused = pauseText(pause)
	}
	return nil
}

// pauseText says who paused what and how it is lifted.
func pauseText(p journal.Pause) string {
	until, scope := "until resumed", "--all"
	if !p.Until.IsZero() {
		until = "until " + p.Until.UTC().Format(time.RFC3339)
	}
	if p.Instance != "" {
		scope = p.Instance
	}
	return cmpText(p.Reason, "no reason given") + " (by " + p.By + ", " + until + "); lift it with: dcshealer resume " + scope
}

// readHistory fills in what ran here before and what runs in the fleet now.
func (m *Machine) readHistory(ctx context.Context, f *policies.Facts, r request) error {
	j := m.h.opt.Journal
	last, found, err := j.LastFinished(ctx, m.in.Name, f.Action, r.fault.Node)
	if err != nil {
		return err
	}
	if found {
		f.LastFinished = m.h.rested.since(last.ID, last.Finished, f.Now)
	}
	if f.Undone, err = j.SucceededSince(ctx, m.in.Name, f.Action, r.fault.Node, f.Now.Add(-time.Hour), f.Now.Add(time.Hour)); err != nil {
		return err
	}
	running, err := j.RunningLive(ctx)
	if err != nil {
		return err
	}
	// Two that begin at once both see the other: the one whose record was written first goes on. The newest come first.
	if own := slices.IndexFunc(running, func(o policies.Record) bool { return o.ID == r.record }); own >= 0 {
		running = running[own+1:]
	}
	for _, o := range running {
		f.Running++
		if o.Action == f.Action {
			f.RunningSame++
		}
		if o.Expect.Resync == policies.ResyncFull {
			f.FullResyncs++
		}
		if o.Instance == m.in.Name {
			f.RunningHere = string(o.Action) + " " + o.ID
		}
	}
	return nil
}

func cmpErr(err, fallback error) error {
	if err != nil {
		return err
	}
	return fallback
}

func cmpText(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// commandText is a command as a person would type it.
func commandText(args []string) string { return strings.Join(args, " ") }

// denials lists who denied and why, for a console line.
func denials(p *policies.Plan) string {
	var parts []string
	for _, r := range p.Guards {
		if r.Denied() {
			parts = append(parts, string(r.Guard)+": "+r.Reason)
		}
	}
	return strings.Join(parts, "; ")
}
