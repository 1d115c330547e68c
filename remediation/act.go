package remediation

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
	"dcshealer/remediation/reattach"
)

// errDenied is a guard's denial right before a command.
var errDenied = errors.New("denied right before the command")

// result is what came of an action.
type result struct {
	outcome policies.Outcome
	err     error
	guards  []policies.Ruling // of the last asking, when it denied
	denied  []policies.Guard
	effect  map[string]any
	after   map[string]any
	sent    bool // a command that changes something went out
	held    bool // denied for reasons that time or a setting lifts
	said    string
}

// act carries out a permitted plan: the intent is durable before the first command, the guards are asked again right
// before it, and the result is written after. again asks for another plan.
func (m *Machine) act(ctx context.Context, l look, inc *incident, p *policies.Plan, req request) (again bool, err error) {
	unlock, err := m.h.opt.Journal.Lock(ctx, m.in.Name)
	if err != nil {
		return false, m.holdFor(ctx, inc, "lock", "busy: "+err.Error())
	}
	defer unlock()
	rec := m.record(l, inc, p)
	rec.Outcome = policies.OutcomeRunning
	id, err := m.h.opt.Journal.Begin(ctx, rec)
	if err != nil {
		return false, m.holdFor(ctx, inc, "journal", "the journal cannot be written, and nothing is done without a record: "+err.Error())
	}
	inc.record, req.record, inc.signature = id, id, ""
	if err := errors.Join(m.toPlanning(ctx), m.life.to(ctx, eventPermit)); err != nil {
		return false, errors.Join(err, m.finish(ctx, inc, id, p, result{outcome: policies.OutcomeFailed, err: err}, nil))
	}
	m.sayDiagnosis(inc)
	m.h.say(m.in.Name, "plan (%s): %s", p.Mode, describe(p))
	r, commands := m.carryOut(ctx, l, p, req)
	if err := m.finish(ctx, inc, id, p, r, commands); err != nil {
		return false, errors.Join(err, m.life.to(ctx, eventEscalate))
	}
	return m.conclude(ctx, inc, r)
}

// carryOut runs the plan's action. It returns the commands that are not in the record yet.
func (m *Machine) carryOut(ctx context.Context, l look, p *policies.Plan, req request) (result, []policies.CommandRecord) {
	req.planned, _ = l.group.Of(p.Node)
	req.plannedMaster, _ = l.group.Of(m.in.Master().Name)
	rc := &recorder{}
	if p.Action == policies.ReclaimExpired {
		r := m.reclaim(ctx, l, p, req, rc)
		return r, rc.all()
	}
	rc.each = func(c policies.CommandRecord) { m.recordCommand(ctx, req.record, c) }
	r := m.reattach(ctx, l, p, req, rc)
	r.addLoss(req, l, p)
	return r, nil
}

// recordCommand writes a command down as soon as its reply is here.
func (m *Machine) recordCommand(ctx context.Context, id string, c policies.CommandRecord) {
	if err := m.h.opt.Journal.Command(ctx, id, c); err != nil {
		m.log.Error("command could not be journalled", "record", id, "err", err)
	}
}

// holdFor keeps a plan waiting for a reason that is not a guard's. It is said once and tried again at each round.
func (m *Machine) holdFor(ctx context.Context, inc *incident, reason, text string) error {
	if inc.signature == "waits for "+reason {
		return nil
	}
	inc.signature = "waits for " + reason
	if err := m.toPlanning(ctx); err != nil {
		return err
	}
	m.sayDiagnosis(inc)
	m.h.say(m.in.Name, "held: %s", text)
	m.log.Warn("plan is held", "reason", text)
	m.rest(inc, policies.StateHeld)
	return m.life.to(ctx, eventHold)
}

// finish writes the result down, counts it with the breakers and says it.
func (m *Machine) finish(ctx context.Context, inc *incident, id string, p *policies.Plan, r result, commands []policies.CommandRecord) error {
	res := journal.Result{Outcome: r.outcome, Finished: time.Now(), After: r.after, Effect: r.effect, Commands: commands, Guards: r.guards, DeniedBy: r.denied}
	if r.err != nil {
		res.Error = r.err.Error()
	}
	err := m.h.opt.Journal.Finish(ctx, id, res)
	if err != nil {
		m.log.Error("result could not be journalled", "record", id, "outcome", r.outcome, "err", err)
	}
	if berr := m.h.breakers.report(context.WithoutCancel(ctx), m.in.Name, p.Action, r.outcome); berr != nil {
		m.log.Error("breaker did not count", "action", p.Action, "err", berr)
	}
	text := r.said
	if r.err != nil {
		text = r.err.Error()
	}
	m.h.say(m.in.Name, "result: %s: %s on %s: %s (record %s)", r.outcome, p.Action, p.Node, text, id)
	m.log.Info("action ended", "action", p.Action, "node", p.Node, "outcome", r.outcome, "record", id, "incident", inc.id)
	return err
}

// conclude moves the Machine on by the outcome.
func (m *Machine) conclude(ctx context.Context, inc *incident, r result) (again bool, err error) {
	if !r.sent {
		// Diagnosed and asked anew at the next round; what time lifts needs no person.
		m.rest(inc, policies.StateEscalated)
		if r.held {
			m.rest(inc, policies.StateHeld)
		}
		if r.outcome == policies.OutcomeUnsupported {
			inc.given = inc.fault.Cause
		}
		return false, m.life.to(ctx, eventEscalate)
	}
	if m.life.state() == policies.StateActing {
		if err := m.life.to(ctx, eventSent); err != nil {
			return false, err
		}
	}
	switch r.outcome {
	case policies.OutcomeSucceeded:
		inc.watch = time.Now().Add(watchFor)
		m.rest(inc, policies.StateCooldown)
		return false, m.life.to(ctx, eventFixed)
	case policies.OutcomeIneffective, policies.OutcomeFailed, policies.OutcomeDenied:
		return ctx.Err() == nil, m.life.to(ctx, eventNext)
	}
	m.rest(inc, policies.StateEscalated)
	return false, m.life.to(ctx, eventEscalate)
}

// lastLook probes all nodes once more and asks every guard again: the last step before a command.
func (m *Machine) lastLook(ctx context.Context, l look, p *policies.Plan, req request) (look, result) {
	fresh := look{group: m.probeAll(ctx), earlier: l.group, agreed: map[string]bool{}, memory: l.memory, at: time.Now()}
	fresh.findings, fresh.faults = m.judge(fresh.group, slowCommands{}, fresh.at)
	for i, f := range fresh.faults {
		if f.Metric == policies.MetricUsedMemory {
			f.Cause = req.fault.Cause // where the memory is was diagnosed a moment ago, and takes a count
			fresh.faults[i] = f
		}
		if f.same(req.fault) {
			fresh.agreed[f.key()] = true
		}
	}
	now := m.plan(ctx, fresh, req)
	switch {
	case ctx.Err() != nil:
		return fresh, result{outcome: policies.OutcomeInterrupted, err: fmt.Errorf("the process is stopping, nothing was sent: %w", ctx.Err())}
	case now == nil || !reflect.DeepEqual(now.Commands, p.Commands):
		return fresh, result{outcome: policies.OutcomeDenied, err: fmt.Errorf("%w: the plan changed", errDenied)}
	case !now.Permitted:
		return fresh, result{outcome: policies.OutcomeDenied, err: fmt.Errorf("%w: %s", errDenied, denials(now)), guards: now.Guards, denied: now.DeniedBy, held: now.Held()}
	}
	return fresh, result{}
}

// reattach sends REPLICAOF and waits for the proof.
func (m *Machine) reattach(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	xn, _ := m.in.Node(p.Node)
	mn := m.in.Master()
	c, err := open(m.in, xn, []string{"replicaof", "role"}, rc)
	if err != nil {
		return result{outcome: policies.OutcomeFailed, err: err}
	}
	defer c.Close()
	// Connected beforehand: nothing but one round trip lies between the last look and the command.
	if err := c.Ping(ctx); err != nil {
		return result{outcome: policies.OutcomeFailed, err: fmt.Errorf("connect to %s/%s: %w", m.in.Name, xn.Name, err)}
	}
	fresh, denied := m.lastLook(ctx, l, p, req)
	if denied.outcome != "" {
		return denied
	}
	if err := m.stillTheSame(ctx, c, fresh, xn); err != nil {
		return result{outcome: policies.OutcomeDenied, err: err, denied: []policies.Guard{policies.GuardIdentity}}
	}
	// Once it is on its way the command is not called off: its effect is read back whatever happens.
	err = reattach.Send(context.WithoutCancel(ctx), c, mn.Peer())
	switch {
	case unsupported(err):
		return result{outcome: policies.OutcomeUnsupported, err: fmt.Errorf("%s does not allow it: %w", xn.Name, err)}
	case errors.Is(err, reattach.ErrNothingHappened):
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	r := m.verifyReattach(ctx, fresh, p, xn, mn)
	if r.outcome != policies.OutcomeSucceeded && err != nil {
		r.err = errors.Join(err, r.err)
	}
	return r
}

// stillTheSame asks ROLE on the very connection that the command will take, right before it: a write, a failover or a
// person's REPLICAOF since the last look shows here.
func (m *Machine) stillTheSame(ctx context.Context, c *conn, l look, xn policies.Node) error {
	x, _ := l.group.Of(xn.Name)
	now, err := c.Role(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s cannot be asked for its role: %w", errDenied, xn.Name, err)
	}
	r := x.Replication
	seen := fmt.Sprint("slave ", r.MasterHost, " ", r.MasterPort)
	if r.Role == policies.RoleMaster {
		seen = fmt.Sprint("master ", r.Offset)
	}
	if now != seen {
		return fmt.Errorf("%w: %s says %q and said %q at the last look: it took writes or was changed in between", errDenied, xn.Name, now, seen)
	}
	return nil
}

// verifyReattach waits for the proof; a process that is stopping looks once more and leaves the rest to the next start.
func (m *Machine) verifyReattach(ctx context.Context, l look, p *policies.Plan, xn, mn policies.Node) result {
	if err := m.life.to(ctx, eventSent); err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	v := reattach.Verify{Replica: m.probers[xn.Name].Probe, Master: m.probers[mn.Name].Probe, ReplicaNode: xn, MasterNode: mn}
	proof, err := v.Run(ctx)
	if ctx.Err() != nil && !proof.Attached {
		proof = lastProof(ctx, v)
		if proof.Attached {
			err = nil
		}
	}
	r := result{sent: true, after: map[string]any{xn.Name: nodeFacts(proof.Replica), mn.Name: nodeFacts(proof.Master)}}
	before, _ := l.group.Of(mn.Name)
	r.effect = map[string]any{"predicted": p.Expect.Resync, "resync": resyncSeen(before, proof.Master), "link_up_after": proof.LinkUpAfter.Seconds(), "attached": proof.Attached, "persistent": false}
	switch {
	case err == nil:
		r.outcome = policies.OutcomeSucceeded
		r.said = fmt.Sprintf("link up after %s by a %v resync, same history as %s; not written to its config file: CONFIG REWRITE is a person's decision", proof.LinkUpAfter.Round(time.Millisecond), r.effect["resync"], mn.Name)
	case ctx.Err() != nil:
		r.outcome, r.err = policies.OutcomeInterrupted, fmt.Errorf("REPLICAOF was sent and the process is stopping: %s", proof.Why)
	default:
		r.outcome, r.err = policies.OutcomeFailed, err
	}
	return r
}

// lastProof looks once more, for a second at the most, when the process is stopping.
func lastProof(ctx context.Context, v reattach.Verify) reattach.Proof {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	p := reattach.Proof{Replica: v.Replica(ctx), Master: v.Master(ctx)}
	p.Why = reattach.Attached(p.Replica, p.Master)
	p.Attached = p.Why == ""
	return p
}

// resyncSeen is the kind of copy that the master counted; a restart in between makes it unknown.
func resyncSeen(before, after policies.Snapshot) string {
	full := after.Stats.SyncFull.V - before.Stats.SyncFull.V
	partial := after.Stats.SyncPartialOK.V - before.Stats.SyncPartialOK.V
	switch {
	case before.RunID != after.RunID || !after.Stats.SyncFull.Known || full < 0:
		return "unknown"
	case full > 0:
		return string(policies.ResyncFull)
	case partial > 0:
		return string(policies.ResyncPartial)
	}
	return "unknown"
}

// addLoss says what a person gave up by hand.
func (r *result) addLoss(req request, l look, p *policies.Plan) {
	if req.allowLost != p.Node || !r.sent {
		return
	}
	x, _ := l.group.Of(p.Node)
	if r.effect == nil {
		r.effect = map[string]any{}
	}
	r.effect["bypassed"] = []policies.Guard{policies.GuardNoLostWrites}
	r.effect["lost"] = map[string]any{"node": p.Node, "keys_held": x.Keys(), "own_bytes": policies.OwnBytes(x.Replication), "master_repl_offset": x.Replication.Offset, "second_repl_offset": x.Replication.SecondOffset}
}
